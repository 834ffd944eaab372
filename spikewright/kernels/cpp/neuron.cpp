// The scan of neurons in general, and its backward scan.  With everything in it, for every step of a chunk,
//
//     c[t] = a c[t-1] + k x[t]                     the synaptic current, where there is one (CURRENT)
//     u[t] = b v[t-1] + g c[t]                     or b v[t-1] + k x[t]
//     h[t] = V + w[t-1]                            a threshold that moves (ADAPTIVE); else V
//     s[t] = 1 if u[t] >= h[t], or > h[t], else 0  or how often h[t] fits into u[t] (COUNTS)
//     v[t] = max(u[t] - R s[t], low)               (SUBTRACT), where R moves with h if told so; or 0 where s[t] > 0
//     w[t] = r w[t-1] + j s[t]
//
// Every constant is one number, or one per neuron.
//
// Compiled without contraction of a * b + c, for the reason given in lif.cpp.

#include <array>
#include <memory>
#include <vector>

#include "neuron.h"
#include "slopes.h"

namespace {

enum Constant { GAIN, CURRENT_LEAK, CURRENT_GAIN, LEAK, THRESHOLD, RESET, LOW, RECOVERY, JUMP, CONSTANTS };
enum Emits { NOTHING, BEFORE_RESET, AFTER_RESET, OVERDRIVE };

template <bool CURRENT, bool ADAPTIVE, bool COUNTS, bool SUBTRACT> struct Kind {
    static constexpr bool current = CURRENT, adaptive = ADAPTIVE, counts = COUNTS, subtract = SUBTRACT;
};

// What holds for all neurons of a scan.
template <class real> struct Shared {
    bool strict, moving, attached, through_time;
    real most;
    int emits, surrogate;
    real parameter;
};

// The constants of a block of neurons.
template <class real> struct Constants {
    alignas(64) real of[CONSTANTS * BLOCK];
    Constants(const real *const *arrays, const double *numbers, int64_t first, int64_t count) {
        for (int k = 0; k < CONSTANTS; ++k)
            for (int64_t i = 0; i < count; ++i) of[k * BLOCK + i] = arrays[k] ? arrays[k][first + i] : real(numbers[k]);
    }
};

// Current, membrane and adaptation of a block, or the gradients of them, one row after the other.
enum State { C, V, W, STATES };

template <class real> struct Carry {
    alignas(64) real of[STATES * BLOCK];
    Carry(const real *const *from, int64_t first, int64_t count) {
        for (int k = 0; k < STATES; ++k)
            for (int64_t i = 0; i < count; ++i) of[k * BLOCK + i] = from[k] ? from[k][first + i] : real(0);
    }
    void store(real *const *to, int64_t first, int64_t count) const {
        for (int k = 0; k < STATES; ++k)
            if (to[k]) std::memcpy(to[k] + first, of + k * BLOCK, count * sizeof(real));
    }
};

// What the way back needs of the steps of a segment: u[t], and v, c and w before the step.
template <class real> struct Trail {
    alignas(64) real u[SEGMENT * BLOCK], v[SEGMENT * BLOCK], c[SEGMENT * BLOCK], w[SEGMENT * BLOCK];
};

template <class real> INLINE real fired(real u, real h, real at_equality) {
    return u > h ? real(1) : u == h ? at_equality : real(0);
}
template <class real> INLINE real count_of(real u, real h, real most) {
    real n = u > 0 ? std::floor(u / h) : real(0);
    return n > most ? most : n;
}
template <class K, class real> INLINE real spikes_of(real u, real h, real at_equality, real most) {
    return K::counts ? count_of(u, h, most) : fired(u, h, at_equality);
}
// The share of the potential that a hard reset leaves; a product, because a choice between values is slower.
template <class K, class real> INLINE real left_of(real s) { return K::counts ? (s > 0 ? real(0) : real(1)) : 1 - s; }
template <class K, class real> INLINE real after_reset(real u, real s, real r) {
    return K::subtract ? u - r * s : u * left_of<K>(s);
}

// One step.  What is not wanted is written to rows that nobody reads.
template <class real, class K, int EMITS>
CLONED void step_forward(int64_t count, const real *__restrict x, const real *__restrict k, const Shared<real> &shared,
                         real *__restrict now, real *__restrict s_row, real *__restrict e_row) {
    const real at_equality = shared.strict ? real(0) : real(1), most = shared.most;
    const real follows = shared.moving ? real(1) : real(0);
    for (int64_t i = 0; i < count; ++i) {
        real drive = k[GAIN * BLOCK + i] * x[i];
        if (K::current) {
            now[C * BLOCK + i] = k[CURRENT_LEAK * BLOCK + i] * now[C * BLOCK + i] + drive;
            drive = k[CURRENT_GAIN * BLOCK + i] * now[C * BLOCK + i];
        }
        const real u = k[LEAK * BLOCK + i] * now[V * BLOCK + i] + drive;
        real h = k[THRESHOLD * BLOCK + i], r = k[RESET * BLOCK + i];
        if (K::adaptive) {
            h += now[W * BLOCK + i];
            r += follows * now[W * BLOCK + i];
        }
        const real s = spikes_of<K>(u, h, at_equality, most);
        const real left = after_reset<K>(u, s, r);
        now[V * BLOCK + i] = left < k[LOW * BLOCK + i] ? k[LOW * BLOCK + i] : left;
        if (K::adaptive) now[W * BLOCK + i] = k[RECOVERY * BLOCK + i] * now[W * BLOCK + i] + k[JUMP * BLOCK + i] * s;
        s_row[i] = s;
        e_row[i] = EMITS == AFTER_RESET ? now[V * BLOCK + i] : EMITS == OVERDRIVE ? u - h : u;
    }
}

template <class real, class Slope>
CLONED void slopes_of(int64_t count, const real *__restrict over, const real *__restrict given, real parameter,
                      real factor, real *__restrict out) {
    for (int64_t i = 0; i < count; ++i) out[i] = factor * Slope::at(over[i], parameter, given, i);
}

// One step back.  `g` is the gradient at c, v and w after it; `sums`, of the constants, grows where it is `wanted`.
template <class real, class K, bool WANTED>
CLONED void step_back(int64_t count, const real *__restrict x, const real *__restrict us, const real *__restrict vs,
                      const real *__restrict cs, const real *__restrict ws, const real *__restrict slope,
                      const real *__restrict grad_s, const real *__restrict grad_e, const real *__restrict k,
                      const Shared<real> &shared, real *__restrict g, real *__restrict leaving,
                      real *__restrict sums) {
    const real at_equality = shared.strict ? real(0) : real(1), most = shared.most;
    const real follows = shared.moving ? real(1) : real(0);
    const real attached = shared.attached ? real(1) : real(0);
    const real after = shared.emits == AFTER_RESET ? real(1) : real(0), before = 1 - after;
    for (int64_t i = 0; i < count; ++i) {
        const real u = us[i];
        real h = k[THRESHOLD * BLOCK + i], r = k[RESET * BLOCK + i];
        if (K::adaptive) {
            h += ws[i];
            r += follows * ws[i];
        }
        const real s = spikes_of<K>(u, h, at_equality, most);
        const real left = after_reset<K>(u, s, r);
        const real at_left = left < k[LOW * BLOCK + i] ? real(0) : g[V * BLOCK + i] + after * grad_e[i];
        real at_s = grad_s[i] - attached * ((K::subtract ? r : u) * at_left);
        if (K::adaptive) at_s += k[JUMP * BLOCK + i] * g[W * BLOCK + i];
        const real passed = at_s * slope[i];
        const real at_u = before * grad_e[i] + (K::subtract ? at_left : at_left * left_of<K>(s)) + passed;
        const real at_r = K::subtract ? -s * at_left : real(0);
        real at_drive = at_u;
        if (K::current) {
            at_drive = g[C * BLOCK + i] + k[CURRENT_GAIN * BLOCK + i] * at_u;
            g[C * BLOCK + i] = k[CURRENT_LEAK * BLOCK + i] * at_drive;
        }
        leaving[i] = k[GAIN * BLOCK + i] * at_drive;
        g[V * BLOCK + i] = k[LEAK * BLOCK + i] * at_u;
        if (WANTED) {
            sums[GAIN * BLOCK + i] += x[i] * at_drive;
            sums[LEAK * BLOCK + i] += vs[i] * at_u;
            sums[THRESHOLD * BLOCK + i] -= passed;
            sums[RESET * BLOCK + i] += at_r;
            if (K::current) {
                sums[CURRENT_LEAK * BLOCK + i] += cs[i] * at_drive;
                sums[CURRENT_GAIN * BLOCK + i] += (k[CURRENT_LEAK * BLOCK + i] * cs[i] + k[GAIN * BLOCK + i] * x[i]) * at_u;
            }
            if (K::adaptive) {
                sums[RECOVERY * BLOCK + i] += ws[i] * g[W * BLOCK + i];
                sums[JUMP * BLOCK + i] += s * g[W * BLOCK + i];
            }
        }
        if (K::adaptive) g[W * BLOCK + i] = k[RECOVERY * BLOCK + i] * g[W * BLOCK + i] - passed + follows * at_r;
    }
}

template <class real> using Over = void (*)(int64_t, const real *, const real *, real, real, real *);

template <class real> Over<real> slope_function(int surrogate) {
    return with_slope<real>(surrogate, [](auto slope) -> Over<real> { return slopes_of<real, decltype(slope)>; });
}

template <class real>
struct Arrays { // of one call; any may be null
    const real *x;
    int64_t stride; // 0: one step that is repeated
    const real *const *before;
    const real *const *constants;
    const double *numbers;
};

// Forward over the steps of a block from `start` to `stop`; fills the trail if there is one.
template <class real, class K>
void run_steps(int64_t start, int64_t stop, int64_t width, int64_t first, int64_t count, const Arrays<real> &in,
               const Constants<real> &constants, const Shared<real> &shared, Carry<real> &now, real *spikes,
               real *emitted, Trail<real> *trail, bool for_constants) {
    alignas(64) real nobody[2][BLOCK];
    const auto step = shared.emits == AFTER_RESET ? step_forward<real, K, AFTER_RESET>
                      : shared.emits == OVERDRIVE ? step_forward<real, K, OVERDRIVE>
                                                  : step_forward<real, K, BEFORE_RESET>;
    for (int64_t t = start; t < stop; ++t) {
        const real *x = in.x + t * in.stride + first;
        if (t + AHEAD < stop) {
            fetch<false>(x + AHEAD * in.stride, count);
            if (spikes) fetch<true>(spikes + (t + AHEAD) * width + first, count);
            if (emitted) fetch<true>(emitted + (t + AHEAD) * width + first, count);
        }
        const int64_t row = (t - start) * BLOCK;
        if (trail) {
            if (for_constants) std::memcpy(trail->v + row, now.of + V * BLOCK, count * sizeof(real));
            if (for_constants && K::current) std::memcpy(trail->c + row, now.of + C * BLOCK, count * sizeof(real));
            if (K::adaptive) std::memcpy(trail->w + row, now.of + W * BLOCK, count * sizeof(real));
        }
        step(count, x, constants.of, shared, now.of, spikes ? spikes + t * width + first : nobody[0],
             trail ? trail->u + row : emitted ? emitted + t * width + first : nobody[1]);
    }
}

template <class real, class K>
void forward(int64_t steps, int64_t width, const Arrays<real> &in, const Shared<real> &shared, real *spikes,
             real *emitted, real *const *after, int threads) {
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        const Constants<real> constants(in.constants, in.numbers, first, count);
        Carry<real> now(in.before, first, count);
        run_steps<real, K>(0, steps, width, first, count, in, constants, shared, now, spikes, emitted, nullptr, false);
        now.store(after, first, count);
    });
}

template <class real> struct Grads {
    const real *spikes, *emitted;
    const real *const *after;
    const real *slopes;
    real *x;
    real *const *before;
    real *const *constants;
};

template <class real, class K, bool WANTED>
void backward(int64_t steps, int64_t width, const Arrays<real> &in, const Shared<real> &shared, real factor,
              const Grads<real> &grads, int threads) {
    const Over<real> slope_row = slope_function<real>(shared.surrogate < 0 ? 0 : shared.surrogate);
    Shared<real> again = shared;
    again.emits = BEFORE_RESET; // what the trail keeps
    const std::array<const real *, 3> nothing{};
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        const Constants<real> constants(in.constants, in.numbers, first, count);
        Carry<real> g(grads.after, first, count);
        std::vector<Carry<real>> starts{Carry<real>(in.before, first, count)};
        const std::unique_ptr<Trail<real>> trail(new Trail<real>); // not set to 0
        alignas(64) real zeros[BLOCK] = {}, over[BLOCK], slope[BLOCK] = {}, sums[CONSTANTS * BLOCK] = {};
        int64_t start = 0;
        for (; start + SEGMENT < steps; start += SEGMENT) {
            starts.push_back(starts.back());
            run_steps<real, K>(start, start + SEGMENT, width, first, count, in, constants, again, starts.back(),
                               nullptr, nullptr, nullptr, false);
        }
        for (int64_t stop = steps; start >= 0; stop = start, start -= SEGMENT, starts.pop_back()) {
            run_steps<real, K>(start, stop, width, first, count, in, constants, again, starts.back(), nullptr, nullptr,
                               trail.get(), WANTED);
            for (int64_t t = stop - 1; t >= start; --t) {
                const int64_t row = (t - start) * BLOCK, out = t * width + first;
                if (t >= AHEAD) {
                    if (grads.spikes) fetch<false>(grads.spikes + out - AHEAD * width, count);
                    fetch<true>(grads.x + out - AHEAD * width, count);
                }
                const real *u = trail->u + row, *w = trail->w + row;
                if (!shared.through_time && t != steps - 1) g = Carry<real>(nothing.data(), 0, count);
                if (shared.surrogate > 0) {
                    for (int64_t i = 0; i < count; ++i)
                        over[i] = u[i] - (K::adaptive ? constants.of[THRESHOLD * BLOCK + i] + w[i] : constants.of[THRESHOLD * BLOCK + i]);
                    slope_row(count, over, nullptr, shared.parameter, factor, slope);
                } else if (shared.surrogate == 0) {
                    std::memcpy(slope, grads.slopes + out, count * sizeof(real));
                }
                step_back<real, K, WANTED>(count, in.x + t * in.stride + first, u, trail->v + row, trail->c + row, w,
                                           slope, grads.spikes ? grads.spikes + out : zeros,
                                           grads.emitted ? grads.emitted + out : zeros, constants.of, shared, g.of,
                                           grads.x + out, sums);
            }
        }
        g.store(grads.before, first, count);
        for (int k = 0; WANTED && k < CONSTANTS; ++k)
            if (grads.constants[k]) std::memcpy(grads.constants[k] + first, sums + k * BLOCK, count * sizeof(real));
    });
}

// Calls body(kind) with the kind of neuron that the bits of `kind` name.
template <class Body> void with_kind(int kind, const Body &body) {
    const auto subtract = [&](auto c, auto a, auto m) {
        kind & 8 ? body(Kind<c(), a(), m(), true>()) : body(Kind<c(), a(), m(), false>());
    };
    const auto counts = [&](auto c, auto a) { kind & 4 ? subtract(c, a, Yes()) : subtract(c, a, No()); };
    const auto adaptive = [&](auto c) { kind & 2 ? counts(c, Yes()) : counts(c, No()); };
    kind & 1 ? adaptive(Yes()) : adaptive(No());
}

// What follows is called from spikewright.kernels.native.  Null: a state at rest, a constant that is one number, what
// is not wanted, or has no gradient.  Flags: 1 strict, 2 the reset moves, 4 attached, 8 through time.

template <class real>
Shared<real> shared_of(int flags, double most, int emits, int surrogate, double parameter) {
    return {(flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0, real(most), emits,
            surrogate, real(parameter)};
}

template <class real>
void neuron(int64_t steps, int64_t width, const real *x, int repeated, const real *current, const real *membrane,
             const real *adaptation, const real *const *arrays, const double *numbers, int kind, int flags, double most,
             int emits, real *spikes, real *emitted, real *after_current, real *after_membrane, real *after_adaptation,
             int threads) {
    const real *before[] = {current, membrane, adaptation};
    real *after[] = {after_current, after_membrane, after_adaptation};
    const Arrays<real> in{x, repeated ? 0 : width, before, arrays, numbers};
    if (spikes) ask_for_huge_pages(spikes, steps * width * sizeof(real));
    if (emitted) ask_for_huge_pages(emitted, steps * width * sizeof(real));
    const auto shared = shared_of<real>(flags, most, emits, 0, 0);
    with_kind(kind, [&](auto k) {
        forward<real, decltype(k)>(steps, width, in, shared, spikes, emitted, after, threads);
    });
}

template <class real>
void neuron_backward(int64_t steps, int64_t width, const real *x, int repeated, const real *current,
                      const real *membrane, const real *adaptation, const real *const *arrays, const double *numbers,
                      int kind, int flags, double most, int emits, const real *grad_spikes, const real *grad_emitted,
                      const real *grad_after_current, const real *grad_after_membrane,
                      const real *grad_after_adaptation, const real *slopes, int surrogate, double parameter,
                      double factor, real *grad_x, real *grad_current, real *grad_membrane, real *grad_adaptation,
                      int wanted, real *const *grad_constants, int threads) {
    const real *before[] = {current, membrane, adaptation};
    const real *after[] = {grad_after_current, grad_after_membrane, grad_after_adaptation};
    real *const to[] = {grad_current, grad_membrane, grad_adaptation};
    const Arrays<real> in{x, repeated ? 0 : width, before, arrays, numbers};
    const Grads<real> grads{grad_spikes, grad_emitted, after, slopes, grad_x, to, grad_constants};
    ask_for_huge_pages(grad_x, steps * width * sizeof(real));
    const auto shared = shared_of<real>(flags, most, emits, surrogate, parameter);
    with_kind(kind, [&](auto k) {
        wanted ? backward<real, decltype(k), true>(steps, width, in, shared, real(factor), grads, threads)
               : backward<real, decltype(k), false>(steps, width, in, shared, real(factor), grads, threads);
    });
}

} // namespace

extern "C" {
auto neuron_f32 = &neuron<float>;
auto neuron_f64 = &neuron<double>;
auto neuron_backward_f32 = &neuron_backward<float>;
auto neuron_backward_f64 = &neuron_backward<double>;
}
