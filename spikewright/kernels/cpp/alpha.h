// The dynamics of neurons with an alpha-shaped response, for scans over time (alpha.cpp) and for single steps
// (alpha_step.cpp): a leaky current c into a leaky potential.
//
//     c[t] = rho c[t-1] + gain x[t]        u[t] = rho v[t-1] + c[t]        s[t] = 1 if u[t] >= threshold, else 0
//
// v is u after the reset, which leaves c as it is.

#pragma once

#include "slopes.h"

namespace {

template <class real> struct Alpha {
    real rho, gain, threshold;

    INLINE real current(real c, real x) const { return rho * c + gain * x; }
    INLINE real potential(real v, real c) const { return rho * v + c; }

    // dL/du[t] from dL/ds[t] and dL/dv[t], where ds/du is `slope`; a reset that is not `attached` has no part in it.
    INLINE real grad_potential(real u, real slope, real grad_s, real grad_v, bool subtract, bool attached) const {
        const real grad_spike = attached ? grad_s - grad_v * (subtract ? threshold : u) : grad_s;
        return slope * grad_spike + (!subtract && u >= threshold ? real(0) : grad_v);
    }
    // What dL/dc[t] gives x[t], and what dL/dc[t] and dL/du[t] give c[t-1] and v[t-1].
    INLINE real grad_input(real grad_c) const { return gain * grad_c; }
    INLINE real grad_before(real grad) const { return rho * grad; }
};

} // namespace
