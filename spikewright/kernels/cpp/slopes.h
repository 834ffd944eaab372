// Surrogate slopes of area 1 at x = u - threshold; `parameter` as in spikewright.surrogate.  Who calls multiplies by the
// factor of the surrogate; slopes that are given have it in them.

#pragma once

#include "scan.h"

namespace {

// a * b + c, rounded once where that is one instruction.  Only for slopes: they decide no spike.
template <class real> INLINE real multiply_add(real a, real b, real c) {
#if defined(FUSES_MULTIPLY_ADD)
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

// e^x for x <= 0, to 2 units in the last place: 2^n e^r with |r| <= ln(2)/2, and the series of e^r.
INLINE float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float round = 12582912.0f; // 1.5 * 2^23: adding it leaves no fraction
    float n = multiply_add(x, 1.44269504f, round) - round;
    float r = multiply_add(n, 2.12194440e-4f, multiply_add(n, -0.693359375f, x)); // ln(2) in two parts
    float e = multiply_add(1.0f / 720, r, 1.0f / 120);
    e = multiply_add(e, r, 1.0f / 24);
    e = multiply_add(e, r, 1.0f / 6);
    e = multiply_add(e, r, 0.5f);
    e = multiply_add(e, r, 1.0f);
    e = multiply_add(e, r, 1.0f);
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return e * scale;
}
INLINE double exp_negative(double x) { return std::exp(x); }

template <class real> struct Given {
    static INLINE real at(real, real, const real *given, int64_t i) { return given[i]; }
};
template <class real> struct Sigmoid {
    static INLINE real at(real x, real alpha, const real *, int64_t) {
        real e = exp_negative(-std::fabs(alpha * x));
        return alpha * e / ((1 + e) * (1 + e));
    }
};
template <class real> struct ATan {
    static INLINE real at(real x, real alpha, const real *, int64_t) {
        real z = real(1.57079632679489661923) * alpha * x;
        return alpha / 2 / multiply_add(z, z, real(1));
    }
};
template <class real> struct Triangle {
    static INLINE real at(real x, real alpha, const real *, int64_t) {
        real y = 1 - std::fabs(alpha * x);
        return y > 0 ? alpha * y : real(0);
    }
};
template <class real> struct Rectangle {
    static INLINE real at(real x, real width, const real *, int64_t) {
        return std::fabs(x) <= width / 2 ? 1 / width : real(0);
    }
};
template <class real> struct FastSigmoid {
    static INLINE real at(real x, real alpha, const real *, int64_t) {
        real y = multiply_add(alpha, std::fabs(x), real(1));
        return alpha / 2 / (y * y);
    }
};
template <class real> struct Exponential {
    static INLINE real at(real x, real width, const real *, int64_t) {
        return exp_negative(-std::fabs(x / width)) / (2 * width);
    }
};
template <class real> struct Erf {
    static INLINE real at(real x, real alpha, const real *, int64_t) {
        real z = alpha * x;
        return real(0.56418958354775628695) * alpha * exp_negative(-z * z); // 1 / sqrt(pi)
    }
};

// Calls body(slope) with the slope of a surrogate that is known by its number; 0 stands for slopes that are given.
template <class real, class Body> auto with_slope(int surrogate, const Body &body) {
    switch (surrogate) {
    case 1: return body(Sigmoid<real>());
    case 2: return body(ATan<real>());
    case 3: return body(Triangle<real>());
    case 4: return body(Rectangle<real>());
    case 5: return body(FastSigmoid<real>());
    case 6: return body(Exponential<real>());
    case 7: return body(Erf<real>());
    default: return body(Given<real>());
    }
}

} // namespace
