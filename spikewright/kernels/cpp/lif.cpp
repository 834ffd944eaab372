// The neuron scan and its backward scan.
//
// Compiled without contraction of a * b + c, so that membranes are bit for bit those of the step-by-step program: a
// spike is a comparison, and one rounding more or less would move it.

#include "neuron.h"
#include "slopes.h"

namespace {

template <class real>
CLONED void lif_block(int64_t steps, int64_t width, int64_t stride, int64_t count, const real *__restrict current,
                      const real *__restrict leak, Neuron<real> neuron, real *__restrict v, real *__restrict spikes,
                      real *__restrict potential, int64_t apart) {
    const real threshold = neuron.threshold, quantum = neuron.quantum;
    for (int64_t t = 0; t < steps; ++t) {
        if (t + AHEAD < steps) {
            fetch<false>(current + AHEAD * stride, count);
            fetch<true>(at(spikes, AHEAD * width), count);
        }
        const auto step = [&](auto subtract, auto fires, auto keeps) INLINE_LAMBDA {
            for (int64_t i = 0; i < count; ++i) {
                real u = leak[i] * v[i] + current[i];
                real s = u >= threshold ? real(1) : real(0);
                v[i] = reset(u, s, quantum, subtract());
                if (fires()) spikes[i] = s;
                if (keeps()) potential[i] = u;
            }
        };
        const auto choose = [&](auto subtract) INLINE_LAMBDA {
            if (spikes)
                potential ? step(subtract, Yes(), Yes()) : step(subtract, Yes(), No());
            else
                potential ? step(subtract, No(), Yes()) : step(subtract, No(), No());
        };
        neuron.subtract ? choose(Yes()) : choose(No());
        current += stride;
        if (spikes) spikes += width;
        if (potential) potential += apart;
    }
}

// `g` is dL/dv[t] on its way back.  dv/du = 1 - quantum ds/du (subtract) or (1 - s) - u ds/du (zero), where ds/du is
// the slope, or 0 if the reset is detached.  `last`: these steps end the sequence.
template <class real, class Slope>
CLONED void lif_backward_block(int64_t steps, int64_t width, int64_t count, const real *__restrict grad_spikes,
                               const real *__restrict potential, int64_t stride, const real *__restrict slopes,
                               const real *__restrict leak, Neuron<real> neuron, real parameter, real factor,
                               bool last, real *__restrict g, real *__restrict grad_current) {
    const real threshold = neuron.threshold, quantum = neuron.quantum;
    // What is the same for all neurons is settled outside the loops, so that they stay free of branches.
    const auto scan = [&](auto subtract, auto attached) INLINE_LAMBDA {
        for (int64_t t = steps - 1; t >= 0; --t) {
            const real *__restrict us = potential + t * stride, *__restrict given = at(slopes, t * width);
            const real *__restrict arriving = at(grad_spikes, t * width);
            real *__restrict leaving = grad_current + t * width;
            if (t >= AHEAD) {
                fetch<false>(at(arriving, -AHEAD * width), count);
                fetch<true>(leaving - AHEAD * width, count);
            }
            if (!neuron.through_time && !(last && t == steps - 1)) std::memset(g, 0, count * sizeof(real));
            const auto step = [&](auto arrives) INLINE_LAMBDA {
                for (int64_t i = 0; i < count; ++i) {
                    real u = us[i];
                    real slope = factor * Slope::at(u - threshold, parameter, given, i);
                    real dv = subtract() ? real(1) : u >= threshold ? real(0) : real(1);
                    if (attached()) dv -= (subtract() ? quantum : u) * slope;
                    real du = g[i] * dv;
                    if (arrives()) du += arriving[i] * slope;
                    leaving[i] = du;
                    g[i] = leak[i] * du;
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

// What follows is called from spikewright.kernels.native.  `current` may be one step that is `repeated`.  Null: a
// membrane at rest, `leaks` where one number `leak` serves all, what has no gradient, a potential that is not kept.

template <class real>
void lif(int64_t steps, int64_t width, const real *current, int repeated, const real *membrane, const real *leaks,
         double leak, double threshold, double quantum, int subtract, real *spikes, real *potential, real *after,
         int threads) {
    const Neuron<real> neuron{real(threshold), real(quantum), subtract != 0, true, true};
    ask_for_huge_pages(spikes, steps * width * sizeof(real));
    if (potential) ask_for_huge_pages(potential, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> v(membrane, first, count, 0), l(leaks, first, count, real(leak));
        lif_block<real>(steps, width, repeated ? 0 : width, count, current + first, l.values, neuron, v.values,
                        spikes + first, at(potential, first), width);
        v.store(after, first, count);
    });
}

// `x` is the potential of every step; or, if the steps are to be run `again`, the current, beside the membrane it met.
template <class real>
void lif_backward(int64_t steps, int64_t width, const real *x, int repeated, int again, const real *membrane,
                  const real *grad_spikes, const real *grad_after, const real *slopes, const real *leaks, double leak,
                  double threshold, double quantum, int subtract, int detach_reset, int through_time, int surrogate,
                  double parameter, double factor, real *grad_current, real *grad_membrane, int threads) {
    const Neuron<real> neuron{real(threshold), real(quantum), subtract != 0, detach_reset != 0, through_time != 0};
    const auto block = with_slope<real>(
        surrogate, [](auto slope) { return lif_backward_block<real, decltype(slope)>; });
    const int64_t stride = repeated ? 0 : width;
    ask_for_huge_pages(grad_current, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> g(grad_after, first, count, 0), l(leaks, first, count, real(leak));
        const auto back = [&](int64_t start, int64_t stop, const real *potential, int64_t apart) {
            const int64_t row = start * width + first;
            block(stop - start, width, count, at(grad_spikes, row), potential, apart, at(slopes, row), l.values, neuron,
                  real(parameter), real(factor), stop == steps, g.values, grad_current + row);
        };
        const auto run = [&](int64_t start, int64_t stop, Block<real> &v, real *potential) {
            lif_block<real>(stop - start, width, stride, count, x + start * stride + first, l.values, neuron, v.values,
                            nullptr, potential, BLOCK);
        };
        if (again)
            back_by_segments<real>(steps, Block<real>(membrane, first, count, 0), run, back);
        else
            back(0, steps, x + first, stride);
        g.store(grad_membrane, first, count);
    });
}

} // namespace

extern "C" {
int interface = 7; // to be raised with every change of what is called from outside, in any file here
auto lif_f32 = &lif<float>;
auto lif_f64 = &lif<double>;
auto lif_backward_f32 = &lif_backward<float>;
auto lif_backward_f64 = &lif_backward<double>;
}
