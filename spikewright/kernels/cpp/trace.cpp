// The trace scan, p[t] = x[t] + leak p[t-1], and the running sum that keeps only its last value.

#include "scan.h"

namespace {

template <class real>
CLONED void trace_block(int64_t steps, int64_t width, int64_t stride, int64_t count, const real *__restrict x,
                        const real *__restrict leak, real *__restrict p, real *__restrict traces) {
    for (int64_t t = 0; t < steps; ++t) {
        if (t + AHEAD < steps) {
            fetch<false>(x + AHEAD * stride, count);
            fetch<true>(at(traces, AHEAD * width), count);
        }
        for (int64_t i = 0; i < count; ++i) {
            p[i] = x[i] + leak[i] * p[i];
            if (traces) traces[i] = p[i];
        }
        x += stride;
        if (traces) traces += width;
    }
}

// Called from spikewright.kernels.native.  `x` may be one step that is `repeated`.  Null: a trace at rest (`before`),
// `leaks` where one number `leak` serves all, `traces` that nobody will read.
template <class real>
void trace(int64_t steps, int64_t width, const real *x, int repeated, const real *before, const real *leaks,
           double leak, real *traces, real *after, int threads) {
    if (traces) ask_for_huge_pages(traces, steps * width * sizeof(real));
    for_blocks(steps, width, threads, [&](int64_t first, int64_t count) {
        Block<real> p(before, first, count, 0), l(leaks, first, count, real(leak));
        trace_block<real>(steps, width, repeated ? 0 : width, count, x + first, l.values, p.values, at(traces, first));
        p.store(after, first, count);
    });
}

} // namespace

extern "C" {
auto trace_f32 = &trace<float>;
auto trace_f64 = &trace<double>;
}
