// One step of neurons with an alpha-shaped response, and the way back through it; arrays are [size].

#include "slopes.h"

namespace {

// Calls body(first, count) for blocks of [0, size), on several threads where that pays.
template <class Body> void for_elements(int64_t size, int threads, const Body &body) { for_blocks(1, size, threads, body); }

// current <- rho current + gain x; potential <- rho membrane + current, where the membrane of what fired last is 0.
template <class real>
CLONED void charge_block(int64_t count, const real *x, const real *before, const uint8_t *history, real rho, real gain,
                         real *__restrict current, real *potential) {
    for (int64_t i = 0; i < count; ++i) {
        const real c = rho * current[i] + gain * x[i];
        const real v = history[i] & 1 ? real(0) : before[i];
        current[i] = c;
        potential[i] = rho * v + c;
    }
}

template <class real>
void alpha_charge(int64_t size, const real *x, const real *before, const uint8_t *history, double rho, double gain,
                  real *current, real *potential, int threads) {
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        charge_block<real>(count, x + first, before + first, history + first, real(rho), real(gain), current + first,
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
void alpha_fire(int64_t size, const real *potential, const uint8_t *history, double threshold, double share,
                uint8_t *after, real *read, int threads) {
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        fire_block<real>(count, potential + first, history + first, real(threshold), real(share), after + first,
                         read + first);
    });
}

// `spikes` is the gradient of spikes by messages, and is cleared; `membrane` and `current` are gradients of the next
// step, and become those of this one; `input` is that of x.
template <class real, class Slope>
CLONED void back_block(int64_t count, real *__restrict spikes, const real *__restrict read,
                       const real *__restrict potential, real share, real rho, real gain, real threshold,
                       real parameter, const real *slopes, real *__restrict membrane, real *__restrict current,
                       real *__restrict input) {
    for (int64_t i = 0; i < count; ++i) {
        const real u = potential[i], m = membrane[i];
        const real slope = Slope::at(u - threshold, parameter, slopes, i);
        const real g = slope * (spikes[i] + share * read[i] - m * u) + (u >= threshold ? real(0) : m);
        const real c = rho * current[i] + g;
        spikes[i] = 0;
        current[i] = c;
        membrane[i] = rho * g;
        input[i] = gain * c;
    }
}

template <class real>
void alpha_back(int64_t size, real *spikes, const real *read, const real *potential, double share, double rho,
                double gain, double threshold, int surrogate, double parameter, const real *slopes, real *membrane,
                real *current, real *input, int threads) {
    const auto block = surrogate == 1   ? back_block<real, Sigmoid<real>>
                       : surrogate == 2 ? back_block<real, ATan<real>>
                       : surrogate == 3 ? back_block<real, Triangle<real>>
                       : surrogate == 4 ? back_block<real, Rectangle<real>>
                                        : back_block<real, Given<real>>;
    for_elements(size, threads, [&](int64_t first, int64_t count) {
        block(count, spikes + first, read + first, potential + first, real(share), real(rho), real(gain),
              real(threshold), real(parameter), at(slopes, first), membrane + first, current + first, input + first);
    });
}

} // namespace

extern "C" {
auto alpha_charge_f32 = &alpha_charge<float>;
auto alpha_charge_f64 = &alpha_charge<double>;
auto alpha_fire_f32 = &alpha_fire<float>;
auto alpha_fire_f64 = &alpha_fire<double>;
auto alpha_back_f32 = &alpha_back<float>;
auto alpha_back_f64 = &alpha_back<double>;
}
