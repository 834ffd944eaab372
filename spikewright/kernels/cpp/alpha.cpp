// The scan of neurons with an alpha-shaped response, and its backward scan; see alpha.h.
//
// Compiled without contraction of a * b + c, for the reason given in lif.cpp.

#include "alpha.h"
#include "neuron.h"

namespace {

// What a block carries from step to step: current and membrane, or the gradients of both.
template <class real> struct Carried {
    Block<real> current, membrane;
    Carried(const real *c, const real *v, int64_t first, int64_t count)
        : current(c, first, count, 0), membrane(v, first, count, 0) {}
};

template <class real>
CLONED void alpha_block(int64_t steps, int64_t width, int64_t stride, int64_t count, const real *__restrict x,
                        Alpha<real> alpha, bool subtract, real *__restrict c, real *__restrict v,
                        real *__restrict spikes, real *__restrict potential, int64_t apart) {
    for (int64_t t = 0; t < steps; ++t) {
        if (t + AHEAD < steps) {
            fetch<false>(x + AHEAD * stride, count);
            fetch<true>(at(spikes, AHEAD * width), count);
        }
        const auto step = [&](auto soft, auto fires, auto keeps) INLINE_LAMBDA {
            for (int64_t i = 0; i < count; ++i) {
                c[i] = alpha.current(c[i], x[i]);
                const real u = alpha.potential(v[i], c[i]);
                const real s = u >= alpha.threshold ? real(1) : real(0);
                v[i] = reset(u, s, alpha.threshold, soft());
                if (fires()) spikes[i] = s;
                if (keeps()) potential[i] = u;
            }
        };
        const auto choose = [&](auto soft) INLINE_LAMBDA {
            if (spikes)
                potential ? step(soft, Yes(), Yes()) : step(soft, Yes(), No());
            else
                potential ? step(soft, No(), Yes()) : step(soft, No(), No());
        };
        subtract ? choose(Yes()) : choose(No());
        x += stride;
        if (spikes) spikes += width;
        if (potential) potential += apart;
    }
}

// `gc` and `gv` are dL/dc[t] and dL/dv[t] by later steps, on their way back.  `last`: these steps end the sequence.
template <class real, class Slope>
CLONED void alpha_backward_block(int64_t steps, int64_t width, int64_t count, const real *__restrict grad_spikes,
                                 const real *__restrict potential, int64_t stride, const real *__restrict slopes,
                                 Alpha<real> alpha, Neuron<real> neuron, real parameter, real factor, bool last,
                                 real *__restrict gc, real *__restrict gv, real *__restrict grad_x) {
    const auto scan = [&](auto soft, auto attached) INLINE_LAMBDA {
        for (int64_t t = steps - 1; t >= 0; --t) {
            const real *__restrict us = potential + t * stride, *__restrict given = at(slopes, t * width);
            const real *__restrict arriving = at(grad_spikes, t * width);
            real *__restrict leaving = grad_x + t * width;
            if (t >= AHEAD) {
                fetch<false>(at(arriving, -AHEAD * width), count);
                fetch<true>(leaving - AHEAD * width, count);
            }
            if (!neuron.through_time && !(last && t == steps - 1)) {
                std::memset(gc, 0, count * sizeof(real));
                std::memset(gv, 0, count * sizeof(real));
            }
            const auto step = [&](auto arrives) INLINE_LAMBDA {
                for (int64_t i = 0; i < count; ++i) {
                    const real u = us[i], slope = factor * Slope::at(u - alpha.threshold, parameter, given, i);
                    const real grad_s = arrives() ? arriving[i] : real(0);
                    const real grad_u = alpha.grad_potential(u, slope, grad_s, gv[i], soft(), attached());
                    const real grad_c = gc[i] + grad_u;
                    leaving[i] = alpha.grad_input(grad_c);
                    gc[i] = alpha.grad_before(grad_c);
                    gv[i] = alpha.grad_before(grad_u);
                }
            };
            arriving ? step(Yes()) : step(No());
        }
    };
    if (neuron.subtract)
        neuron.detach_reset ? scan(Yes(), No()) : scan(Yes(), Yes());
    else
        neuron.detach_reset ? scan(No(), No()) : scan(No(), Yes());
}

// What follows is called from spikewright.kernels.native.  `x` may be one step that is `repeated`.  Null: a current or
// a membrane at rest, what has no gradient, a potential that is not kept.

template <class real>
void alpha(int64_t steps, int64_t width, const real *x, int repeated, const real *current, const real *membrane,
           double rho, double gain, double threshold, int subtract, real *spikes, real *potential, real *after_current,
           real *after_membrane, int threads) {
    const Alpha<real> dynamics{real(rho), real(gain), real(threshold)};
    ask_for_huge_pages(spikes, steps * width * sizeof(real));
    if (potential) ask_for_huge_pages(potential, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Carried<real> now(current, membrane, first, count);
        alpha_block<real>(steps, width, repeated ? 0 : width, count, x + first, dynamics, subtract != 0,
                          now.current.values, now.membrane.values, spikes + first, at(potential, first), width);
        now.current.store(after_current, first, count);
        now.membrane.store(after_membrane, first, count);
    });
}

// `x` is the potential of every step; or, if the steps are to be run `again`, their input, beside what they started
// from.
template <class real>
void alpha_backward(int64_t steps, int64_t width, const real *x, int repeated, int again, const real *current,
                    const real *membrane, const real *grad_spikes, const real *grad_after_current,
                    const real *grad_after_membrane, const real *slopes, double rho, double gain, double threshold,
                    int subtract, int detach_reset, int through_time, int surrogate, double parameter, double factor,
                    real *grad_x, real *grad_current, real *grad_membrane, int threads) {
    const Alpha<real> dynamics{real(rho), real(gain), real(threshold)};
    const Neuron<real> neuron{real(threshold), real(threshold), subtract != 0, detach_reset != 0, through_time != 0};
    const auto block = with_slope<real>(
        surrogate, [](auto slope) { return alpha_backward_block<real, decltype(slope)>; });
    const int64_t stride = repeated ? 0 : width;
    ask_for_huge_pages(grad_x, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Carried<real> g(grad_after_current, grad_after_membrane, first, count);
        const auto run = [&](int64_t start, int64_t stop, Carried<real> &now, real *potential) {
            alpha_block<real>(stop - start, width, stride, count, x + start * stride + first, dynamics,
                              neuron.subtract, now.current.values, now.membrane.values, nullptr, potential, BLOCK);
        };
        const auto back = [&](int64_t start, int64_t stop, const real *potential, int64_t apart) {
            const int64_t row = start * width + first;
            block(stop - start, width, count, at(grad_spikes, row), potential, apart, at(slopes, row), dynamics, neuron,
                  real(parameter), real(factor), stop == steps, g.current.values, g.membrane.values, grad_x + row);
        };
        if (again)
            back_by_segments<real>(steps, Carried<real>(current, membrane, first, count), run, back);
        else
            back(0, steps, x + first, stride);
        g.current.store(grad_current, first, count);
        g.membrane.store(grad_membrane, first, count);
    });
}

} // namespace

extern "C" {
auto alpha_f32 = &alpha<float>;
auto alpha_f64 = &alpha<double>;
auto alpha_backward_f32 = &alpha_backward<float>;
auto alpha_backward_f64 = &alpha_backward<double>;
}
