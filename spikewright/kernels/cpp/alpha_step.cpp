// One step of neurons with an alpha-shaped response, and the way back through it; see alpha.h.  Arrays are [size].

#include "alpha.h"

namespace {

// Calls body(first, count) for blocks of [0, size), on several threads where that pays.
template <class Body> void for_elements(int64_t size, int threads, const Body &body) { for_blocks(1, size, threads, body); }

// The current becomes that of this step; the membrane of what fired last is 0.
template <class real>
CLONED void charge_block(int64_t count, const real *x, const real *before, const uint8_t *history, Alpha<real> alpha,
                         real *__restrict current, real *potential) {
    for (int64_t i = 0; i < count; ++i) {
        const real c = alpha.current(current[i], x[i]);
        const real v = history[i] & 1 ? real(0) : before[i];
        current[i] = c;
        potential[i] = alpha.potential(v, c);
    }
}

template <class real>
void alpha_step_charge(int64_t size, const real *x, const real *before, const uint8_t *history, double rho, double gain,
                       real *current, real *potential, int threads) {
    const Alpha<real> alpha{real(rho), real(gain), 0};
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        charge_block<real>(count, x + first, before + first, history + first, alpha, current + first,
                           potential + first);
    });
}

// The last bit of a history tells what fired; `read` counts it.
template <class real>
CLONED void fire_block(int64_t count, const real *__restrict potential, const uint8_t *history, real threshold,
                       real share, uint8_t *after, real *__restrict read) {
    for (int64_t i = 0; i < count; ++i) {
        const bool fired = potential[i] >= threshold;
        after[i] = uint8_t(history[i] << 1) | uint8_t(fired);
        read[i] += fired ? share : real(0);
    }
}

template <class real>
void alpha_step_fire(int64_t size, const real *potential, const uint8_t *history, double threshold, double share,
                     uint8_t *after, real *read, int threads) {
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        fire_block<real>(count, potential + first, history + first, real(threshold), real(share), after + first,
                         read + first);
    });
}

// `spikes` is the gradient of spikes by messages, and is cleared; `membrane` and `current` are gradients after the
// step, and become those before it; `input` is that of x.
template <class real, class Slope>
CLONED void backward_block(int64_t count, real *__restrict spikes, const real *__restrict read,
                           const real *__restrict potential, real share, Alpha<real> alpha, real parameter,
                           real factor, const real *slopes, real *__restrict membrane, real *__restrict current,
                           real *__restrict input) {
    for (int64_t i = 0; i < count; ++i) {
        const real u = potential[i], slope = factor * Slope::at(u - alpha.threshold, parameter, slopes, i);
        const real grad_u = alpha.grad_potential(u, slope, spikes[i] + share * read[i], membrane[i], false, true);
        const real grad_c = current[i] + grad_u;
        spikes[i] = 0;
        input[i] = alpha.grad_input(grad_c);
        current[i] = alpha.grad_before(grad_c);
        membrane[i] = alpha.grad_before(grad_u);
    }
}

template <class real>
void alpha_step_backward(int64_t size, real *spikes, const real *read, const real *potential, double share, double rho,
                         double gain, double threshold, int surrogate, double parameter, double factor,
                         const real *slopes, real *membrane, real *current, real *input, int threads) {
    const Alpha<real> alpha{real(rho), real(gain), real(threshold)};
    const auto block = with_slope<real>(surrogate, [](auto slope) { return backward_block<real, decltype(slope)>; });
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        block(count, spikes + first, read + first, potential + first, real(share), alpha, real(parameter),
              real(factor), at(slopes, first), membrane + first, current + first, input + first);
    });
}

} // namespace

extern "C" {
auto alpha_step_charge_f32 = &alpha_step_charge<float>;
auto alpha_step_charge_f64 = &alpha_step_charge<double>;
auto alpha_step_fire_f32 = &alpha_step_fire<float>;
auto alpha_step_fire_f64 = &alpha_step_fire<double>;
auto alpha_step_backward_f32 = &alpha_step_backward<float>;
auto alpha_step_backward_f64 = &alpha_step_backward<double>;
}
