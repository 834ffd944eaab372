// Messages along the edges of a graph, for a block of columns (batch x channel) at a time, so that threads never meet.
//
// A pair is a source and a relation.  What it transmits, per column, is one bit of the history of its source, where bit
// d tells whether it fired d steps ago, or a value of its source; either may be multiplied by a weight of its relation.

#include <vector>

#include "scan.h"

namespace {

constexpr int64_t COLUMNS = 256; // of a block
constexpr int64_t EARLIER = 16;  // edges between asking for a row and reading it

// Calls body(first, count) for blocks of [0, columns), on several threads where that pays.
template <class Body> void for_columns(int64_t columns, int64_t rows, int threads, const Body &body) {
    if (columns * rows < SERIAL) threads = 1;
    int64_t share = ((columns + threads - 1) / threads + 15) / 16 * 16;
    int64_t block = share < COLUMNS ? share : COLUMNS;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (int64_t first = 0; first < columns; first += block)
        body(first, columns - first < block ? columns - first : block);
}

template <class real> struct Transmitted {
    const uint8_t *history; // [nodes, columns]; or null
    const real *values;     // [nodes, columns], where there is no history
    const uint8_t *delays;  // [relations, columns]
    const real *weights;    // [relations, columns]; null for 1
};

template <class real>
CLONED void gather_block(int64_t targets, const int64_t *starts, const int64_t *sources, const int64_t *kinds,
                         const real *edge_weight, int64_t columns, Transmitted<real> from, int64_t first, int64_t count,
                         real *out) {
    alignas(64) real sum[COLUMNS];
    const int64_t edges = starts[targets];
    for (int64_t v = 0; v < targets; ++v) {
        for (int64_t i = 0; i < count; ++i) sum[i] = 0;
        for (int64_t e = starts[v]; e < starts[v + 1]; ++e) {
            if (e + EARLIER < edges) {
                const int64_t ahead = sources[e + EARLIER] * columns + first;
                if (from.history) fetch<false>(from.history + ahead, count);
                else fetch<false>(from.values + ahead, count);
            }
            const real keep = edge_weight ? edge_weight[e] : real(1);
            if (keep == 0) continue;
            const int64_t row = sources[e] * columns + first, kind = kinds[e] * columns + first;
            const real *__restrict w = from.weights ? from.weights + kind : nullptr;
            if (from.history) {
                const uint8_t *__restrict h = from.history + row, *__restrict d = from.delays + kind;
                if (w)
                    for (int64_t i = 0; i < count; ++i) sum[i] += keep * real((int32_t(h[i]) >> d[i]) & 1) * w[i];
                else
                    for (int64_t i = 0; i < count; ++i) sum[i] += keep * real((int32_t(h[i]) >> d[i]) & 1);
            } else {
                const real *__restrict x = from.values + row;
                if (w)
                    for (int64_t i = 0; i < count; ++i) sum[i] += keep * x[i] * w[i];
                else
                    for (int64_t i = 0; i < count; ++i) sum[i] += keep * x[i];
            }
        }
        std::memcpy(out + v * columns + first, sum, count * sizeof(real));
    }
}

// `order` is that of `edge_weight`, the weights of edges, which come in the order of pairs.
template <class real>
void gather(int64_t targets, const int64_t *starts, const int64_t *sources, const int64_t *kinds, const real *edge_weight,
            int64_t columns, const uint8_t *history, const real *values, const uint8_t *delays, const real *weights,
            real *out, int threads) {
    for_columns(columns, targets + starts[targets], threads, [&](int64_t first, int64_t count) {
        gather_block<real>(targets, starts, sources, kinds, edge_weight, columns, {history, values, delays, weights},
                           first, count, out);
    });
}

// What comes back to a pair goes to its source, `delay` steps earlier, to its weight and to its delay.
template <class real> struct Gradients {
    real *sources;      // [slots, nodes, columns]: of history, a ring of steps; of values, one slot
    int64_t slots, now; // the slot of no delay
    int64_t reach;      // the longest delay that leads to a step that there was
    real *weights;      // [relations, columns]; or null
    real *delays;       // [relations, columns]; or null
    real here, before;  // of a longer delay: what the spike of a step and the one before it give
    const real *traces; // [step, nodes, columns], at the step of no delay, in the place of these two; or null
};

template <class real>
CLONED void scatter_block(int64_t nodes, const int64_t *by_source, const int64_t *kinds, const int64_t *by_pair,
                          const int64_t *targets, const real *edge_weight, int64_t columns, const real *grad,
                          Transmitted<real> from, Gradients<real> to, int64_t first, int64_t count) {
    alignas(64) real g[COLUMNS];
    std::vector<real> back((to.reach + 1) * COLUMNS);
    const int64_t pairs = by_source[nodes], edges = by_pair[pairs], layer = nodes * columns;
    for (int64_t n = 0; n < nodes; ++n) {
        if (by_source[n] == by_source[n + 1]) continue;
        const int64_t row = n * columns + first;
        for (real &b : back) b = 0;
        for (int64_t p = by_source[n]; p < by_source[n + 1]; ++p) {
            for (int64_t i = 0; i < count; ++i) g[i] = 0;
            for (int64_t e = by_pair[p]; e < by_pair[p + 1]; ++e) {
                if (e + EARLIER < edges) fetch<false>(grad + targets[e + EARLIER] * columns + first, count);
                const real keep = edge_weight ? edge_weight[e] : real(1);
                if (keep == 0) continue;
                const real *__restrict x = grad + targets[e] * columns + first;
                for (int64_t i = 0; i < count; ++i) g[i] += keep * x[i];
            }
            const int64_t kind = kinds[p] * columns + first;
            const uint8_t *__restrict h = at(from.history, row), *__restrict d = at(from.delays, kind);
            if (to.weights) {
                real *__restrict gw = to.weights + kind;
                if (from.history)
                    for (int64_t i = 0; i < count; ++i) gw[i] += g[i] * real((int32_t(h[i]) >> d[i]) & 1);
                else
                    for (int64_t i = 0; i < count; ++i) gw[i] += g[i] * from.values[row + i];
            }
            if (from.weights) {
                const real *__restrict w = from.weights + kind;
                for (int64_t i = 0; i < count; ++i) g[i] *= w[i];
            }
            if (!from.history) {
                for (int64_t i = 0; i < count; ++i) back[i] += g[i];
                continue;
            }
            for (int64_t k = 0; k <= to.reach; ++k) {
                real *__restrict b = back.data() + k * COLUMNS;
                for (int64_t i = 0; i < count; ++i) b[i] += d[i] == k ? g[i] : real(0);
            }
            if (!to.delays) continue;
            real *__restrict gd = to.delays + kind;
            if (to.traces) {
                for (int64_t k = 0; k <= to.reach; ++k) {
                    const real *__restrict q = to.traces - k * layer + row;
                    for (int64_t i = 0; i < count; ++i) gd[i] += d[i] == k ? g[i] * q[i] : real(0);
                }
            } else {
                for (int64_t i = 0; i < count; ++i) {
                    const int32_t past = int32_t(h[i]) >> d[i];
                    gd[i] += g[i] * (to.here * real(past & 1) + to.before * real((past >> 1) & 1));
                }
            }
        }
        for (int64_t k = 0; k <= to.reach; ++k) {
            real *__restrict s = to.sources + ((to.now - k + to.slots) % to.slots) * layer + row;
            const real *__restrict b = back.data() + k * COLUMNS;
            for (int64_t i = 0; i < count; ++i) s[i] += b[i];
        }
    }
}

template <class real>
void scatter(int64_t nodes, const int64_t *by_source, const int64_t *kinds, const int64_t *by_pair,
             const int64_t *targets, const real *edge_weight, int64_t columns, const real *grad, const uint8_t *history,
             const real *values, const uint8_t *delays, const real *weights, real *grad_sources, int64_t slots,
             int64_t now, int64_t reach, real *grad_weights, real *grad_delays, double here, double before,
             const real *traces, int threads) {
    for_columns(columns, nodes + by_pair[by_source[nodes]], threads, [&](int64_t first, int64_t count) {
        scatter_block<real>(nodes, by_source, kinds, by_pair, targets, edge_weight, columns, grad,
                            {history, values, delays, weights},
                            {grad_sources, slots, now, reach, grad_weights, grad_delays, real(here), real(before),
                             traces},
                            first, count);
    });
}

// Sum, sum of squares, maximum and minimum of what arrives, beside what is there before (`start`, or nothing), and how
// many have the extremes.
template <class real> struct Statistics {
    real *total, *square, *most, *least;
    int32_t *many_most, *many_least;
};

template <class real>
CLONED void statistics_block(int64_t targets, const int64_t *starts, const int64_t *pairs, const real *edge_weight,
                             int64_t columns, const real *sent, const real *start, Statistics<real> out, int64_t first,
                             int64_t count) {
    const int64_t edges = starts[targets];
    for (int64_t v = 0; v < targets; ++v) {
        const int64_t row = v * columns + first;
        real *__restrict total = out.total + row, *__restrict square = out.square + row;
        real *__restrict most = out.most + row, *__restrict least = out.least + row;
        int32_t *__restrict top = out.many_most + row, *__restrict low = out.many_least + row;
        for (int64_t i = 0; i < count; ++i) {
            const real s = start ? start[row + i] : real(0);
            total[i] = most[i] = least[i] = s;
            square[i] = s * s;
            top[i] = low[i] = 1;
        }
        bool fresh = !start;
        for (int64_t e = starts[v]; e < starts[v + 1]; ++e) {
            if (e + EARLIER < edges) fetch<false>(sent + pairs[e + EARLIER] * columns + first, count);
            if (edge_weight && edge_weight[e] == 0) continue;
            const real *__restrict x = sent + pairs[e] * columns + first;
            for (int64_t i = 0; i < count; ++i) total[i] += x[i];
            for (int64_t i = 0; i < count; ++i) square[i] += x[i] * x[i];
            if (fresh) {
                for (int64_t i = 0; i < count; ++i) most[i] = least[i] = x[i];
                fresh = false;
                continue;
            }
            for (int64_t i = 0; i < count; ++i) top[i] = x[i] > most[i] ? 1 : top[i] + (x[i] == most[i]);
            for (int64_t i = 0; i < count; ++i) most[i] = x[i] > most[i] ? x[i] : most[i];
            for (int64_t i = 0; i < count; ++i) low[i] = x[i] < least[i] ? 1 : low[i] + (x[i] == least[i]);
            for (int64_t i = 0; i < count; ++i) least[i] = x[i] < least[i] ? x[i] : least[i];
        }
    }
}

template <class real>
void statistics(int64_t targets, const int64_t *starts, const int64_t *pairs, const real *edge_weight, int64_t columns,
                const real *sent, const real *start, real *total, real *square, real *most, real *least,
                int32_t *many_most, int32_t *many_least, int threads) {
    for_columns(columns, targets + starts[targets], threads, [&](int64_t first, int64_t count) {
        statistics_block<real>(targets, starts, pairs, edge_weight, columns, sent, start,
                               {total, square, most, least, many_most, many_least}, first, count);
    });
}

// The way back of `statistics` to what pairs sent.  `grad` holds the gradients of its outputs, those of extremes
// divided by how many have them, and `top` and `low` hold the extremes.
template <class real>
CLONED void statistics_back_block(int64_t targets, const int64_t *starts, const int64_t *pairs, const real *edge_weight,
                                  int64_t columns, const real *sent, const real *top, const real *low,
                                  Statistics<const real> grad, int64_t first, int64_t count, real *back) {
    const int64_t edges = starts[targets];
    for (int64_t v = 0; v < targets; ++v) {
        const int64_t row = v * columns + first;
        const real *__restrict total = grad.total + row, *__restrict square = grad.square + row;
        const real *__restrict most = grad.most + row, *__restrict least = grad.least + row;
        const real *__restrict high = top + row, *__restrict deep = low + row;
        for (int64_t e = starts[v]; e < starts[v + 1]; ++e) {
            if (e + EARLIER < edges) fetch<true>(back + pairs[e + EARLIER] * columns + first, count);
            if (edge_weight && edge_weight[e] == 0) continue;
            const real *__restrict x = sent + pairs[e] * columns + first;
            real *__restrict g = back + pairs[e] * columns + first;
            for (int64_t i = 0; i < count; ++i)
                g[i] += total[i] + 2 * x[i] * square[i] + (x[i] == high[i] ? most[i] : real(0)) +
                        (x[i] == deep[i] ? least[i] : real(0));
        }
    }
}

template <class real>
void statistics_back(int64_t targets, const int64_t *starts, const int64_t *pairs, const real *edge_weight,
                     int64_t columns, const real *sent, const real *top, const real *low, const real *total,
                     const real *square, const real *most, const real *least, real *back, int threads) {
    for_columns(columns, targets + starts[targets], threads, [&](int64_t first, int64_t count) {
        statistics_back_block<real>(targets, starts, pairs, edge_weight, columns, sent, top, low,
                                    {total, square, most, least, nullptr, nullptr}, first, count, back);
    });
}

} // namespace

extern "C" {
auto statistics_f32 = &statistics<float>;
auto statistics_f64 = &statistics<double>;
auto statistics_back_f32 = &statistics_back<float>;
auto statistics_back_f64 = &statistics_back<double>;
auto gather_f32 = &gather<float>;
auto gather_f64 = &gather<double>;
auto scatter_f32 = &scatter<float>;
auto scatter_f64 = &scatter<double>;
}
