// Scans over time, one pass over memory each.  Arrays are [steps, width] and contiguous; a block of neurons is taken
// through all its steps while what it carries (membrane, trace, gradient) stays in the first-level cache.
//
// Compiled without contraction of a * b + c, so that membranes are bit for bit those of the step-by-step program: a
// spike is a comparison, and one rounding more or less would move it.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

// One portable binary that uses the widest vectors of the machine it runs on.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONED
#endif
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace {

constexpr int64_t BLOCK = 1024;
constexpr int64_t SERIAL = 16384;      // fewer elements are not worth a second thread
constexpr int64_t HUGE_FROM = 4 << 20; // bytes

// Fresh memory of this size costs more to fault in, page by page, than to compute on.
void ask_for_huge_pages(void *start, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes < HUGE_FROM) return;
    uintptr_t first = (reinterpret_cast<uintptr_t>(start) + 4095) & ~uintptr_t(4095);
    uintptr_t last = (reinterpret_cast<uintptr_t>(start) + bytes) & ~uintptr_t(4095);
    madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Calls body(first, count) for blocks of [0, width), on several threads where that pays.
template <class Body> void for_blocks(int64_t steps, int64_t width, int threads, const Body &body) {
    if (width == 0) return;
    if (steps * width < SERIAL) threads = 1;
    int64_t share = ((width + threads - 1) / threads + 15) / 16 * 16;
    int64_t block = share < BLOCK ? share : BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t first = 0; first < width; first += block)
        body(first, width - first < block ? width - first : block);
}

template <class real> struct Block {
    alignas(64) real values[BLOCK];
    Block(const real *from, int64_t first, int64_t count, real otherwise) {
        for (int64_t i = 0; i < count; ++i) values[i] = from ? from[first + i] : otherwise;
    }
    void store(real *to, int64_t first, int64_t count) const { std::memcpy(to + first, values, count * sizeof(real)); }
};

// A part of an optional array.
template <class real> real *at(real *array, int64_t first) { return array ? array + first : nullptr; }

// e^x for x <= 0, to 2 units in the last place: 2^n e^r with |r| <= ln(2)/2, and the series of e^r.
INLINE float exp_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float round = 12582912.0f; // 1.5 * 2^23: adding it leaves no fraction
    float n = (x * 1.44269504f + round) - round;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln(2) in two parts
    float e = 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return e * scale;
}
INLINE double exp_negative(double x) { return std::exp(x); }

// Surrogate slopes at x = u - threshold; `parameter` as in spikewright.surrogate.
template <class real> struct Given {
    static INLINE real at(real, real, real given) { return given; }
};
template <class real> struct Sigmoid {
    static INLINE real at(real x, real alpha, real) {
        real e = exp_negative(-std::fabs(alpha * x));
        return alpha * e / ((1 + e) * (1 + e));
    }
};
template <class real> struct ATan {
    static INLINE real at(real x, real alpha, real) {
        real z = real(1.57079632679489661923) * alpha * x;
        return alpha / 2 / (1 + z * z);
    }
};
template <class real> struct Triangle {
    static INLINE real at(real x, real, real) {
        real y = 1 - std::fabs(x);
        return y > 0 ? y : real(0);
    }
};
template <class real> struct Rectangle {
    static INLINE real at(real x, real width, real) { return std::fabs(x) <= width / 2 ? 1 / width : real(0); }
};

template <class real> struct Neuron {
    real threshold;
    bool subtract, detach_reset, through_time;
};

template <class real>
CLONED void lif_block(int64_t steps, int64_t width, int64_t count, const real *__restrict current,
                      const real *__restrict leak, Neuron<real> neuron, real *__restrict v, real *__restrict spikes,
                      real *__restrict potential) {
    const real threshold = neuron.threshold;
    for (int64_t t = 0; t < steps; ++t) {
        if (neuron.subtract)
            for (int64_t i = 0; i < count; ++i) {
                real u = leak[i] * v[i] + current[i];
                real s = u >= threshold ? real(1) : real(0);
                spikes[i] = s;
                v[i] = u - threshold * s;
                if (potential) potential[i] = u;
            }
        else
            for (int64_t i = 0; i < count; ++i) {
                real u = leak[i] * v[i] + current[i];
                real s = u >= threshold ? real(1) : real(0);
                spikes[i] = s;
                v[i] = u * (1 - s);
                if (potential) potential[i] = u;
            }
        current += width, spikes += width;
        if (potential) potential += width;
    }
}

// `g` is dL/dv[t] on its way back.  dv/du = 1 - threshold ds/du (subtract) or (1 - s) - u ds/du (zero), where ds/du is
// the slope, or 0 if the reset is detached.
template <class real, class Slope>
CLONED void lif_backward_block(int64_t steps, int64_t width, int64_t count, const real *__restrict grad_spikes,
                               const real *__restrict potential, const real *__restrict slopes,
                               const real *__restrict leak, Neuron<real> neuron, real parameter, real *__restrict g,
                               real *__restrict grad_current) {
    const real threshold = neuron.threshold;
    // What is the same for all neurons is settled outside the loops, so that they stay free of branches.
    const auto scan = [&](auto subtract, auto attached) INLINE_LAMBDA {
        for (int64_t t = steps - 1; t >= 0; --t) {
            const int64_t row = t * width;
            const real carried = t == steps - 1 || neuron.through_time ? 1 : 0;
            for (int64_t i = 0; i < count; ++i) {
                real u = potential[row + i];
                real slope = Slope::at(u - threshold, parameter, slopes ? slopes[row + i] : real(0));
                real dv = subtract() ? real(1) : u >= threshold ? real(0) : real(1);
                if (attached()) dv -= (subtract() ? threshold : u) * slope;
                real du = (grad_spikes ? grad_spikes[row + i] : real(0)) * slope + carried * g[i] * dv;
                grad_current[row + i] = du;
                g[i] = leak[i] * du;
            }
        }
    };
    if (neuron.subtract)
        neuron.detach_reset ? scan(std::true_type(), std::false_type()) : scan(std::true_type(), std::true_type());
    else
        neuron.detach_reset ? scan(std::false_type(), std::false_type()) : scan(std::false_type(), std::true_type());
}

template <class real>
CLONED void trace_block(int64_t steps, int64_t width, int64_t count, const real *__restrict x,
                        const real *__restrict leak, real *__restrict p, real *__restrict traces) {
    for (int64_t t = 0; t < steps; ++t) {
        for (int64_t i = 0; i < count; ++i) {
            p[i] = x[i] + leak[i] * p[i];
            if (traces) traces[i] = p[i];
        }
        x += width;
        if (traces) traces += width;
    }
}

// What follows is called from spikewright.kernels.native.  An array that may be absent may be null: a membrane or trace
// at rest, `leaks` where one number `leak` serves all, `potential` or `traces` that nobody will read.

template <class real>
void lif(int64_t steps, int64_t width, const real *current, const real *membrane, const real *leaks, double leak,
         double threshold, int subtract, real *spikes, real *potential, real *after, int threads) {
    const Neuron<real> neuron{real(threshold), subtract != 0, true, true};
    ask_for_huge_pages(spikes, steps * width * sizeof(real));
    if (potential) ask_for_huge_pages(potential, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> v(membrane, first, count, 0), l(leaks, first, count, real(leak));
        lif_block<real>(steps, width, count, current + first, l.values, neuron, v.values, spikes + first,
                        at(potential, first));
        v.store(after, first, count);
    });
}

template <class real>
void lif_backward(int64_t steps, int64_t width, const real *potential, const real *grad_spikes, const real *grad_after,
                  const real *slopes, const real *leaks, double leak, double threshold, int subtract, int detach_reset,
                  int through_time, int surrogate, double parameter, real *grad_current, real *grad_membrane,
                  int threads) {
    const Neuron<real> neuron{real(threshold), subtract != 0, detach_reset != 0, through_time != 0};
    const auto block = surrogate == 1   ? lif_backward_block<real, Sigmoid<real>>
                       : surrogate == 2 ? lif_backward_block<real, ATan<real>>
                       : surrogate == 3 ? lif_backward_block<real, Triangle<real>>
                       : surrogate == 4 ? lif_backward_block<real, Rectangle<real>>
                                        : lif_backward_block<real, Given<real>>;
    ask_for_huge_pages(grad_current, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> g(grad_after, first, count, 0), l(leaks, first, count, real(leak));
        block(steps, width, count, at(grad_spikes, first), potential + first, at(slopes, first), l.values, neuron,
              real(parameter), g.values, grad_current + first);
        g.store(grad_membrane, first, count);
    });
}

template <class real>
void trace(int64_t steps, int64_t width, const real *x, const real *before, const real *leaks, double leak,
           real *traces, real *after, int threads) {
    if (traces) ask_for_huge_pages(traces, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> p(before, first, count, 0), l(leaks, first, count, real(leak));
        trace_block<real>(steps, width, count, x + first, l.values, p.values, at(traces, first));
        p.store(after, first, count);
    });
}

} // namespace

extern "C" {
int interface = 1; // to be raised with every change of what follows
auto lif_f32 = &lif<float>;
auto lif_f64 = &lif<double>;
auto lif_backward_f32 = &lif_backward<float>;
auto lif_backward_f64 = &lif_backward<double>;
auto trace_f32 = &trace<float>;
auto trace_f64 = &trace<double>;
}
