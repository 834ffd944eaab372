// What every scan over time is made of.  Arrays are [steps, width] and contiguous; a block of neurons is taken through
// all its steps while what it carries (membrane, trace, gradient) stays in the first-level cache.

#pragma once

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
#define FUSES_MULTIPLY_ADD 1
#else
#define CLONED
#endif
#if defined(__FMA__) || defined(__aarch64__)
#define FUSES_MULTIPLY_ADD 1
#endif
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace {

constexpr int64_t BLOCK = 512;
constexpr int64_t AHEAD = 2;           // rows of a block are too short for the processor to fetch the next ones unasked
constexpr int64_t SERIAL = 16384;      // fewer elements are not worth a second thread
constexpr int64_t HUGE_FROM = 4 << 20; // bytes

using Yes = std::true_type;
using No = std::false_type;

// Fresh memory of this size costs more to fault in, page by page, than to compute on.
inline void ask_for_huge_pages(void *start, int64_t bytes) {
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

// What a block carries from step to step.
template <class real> struct Block {
    alignas(64) real values[BLOCK];
    Block(const real *from, int64_t first, int64_t count, real otherwise) {
        for (int64_t i = 0; i < count; ++i) values[i] = from ? from[first + i] : otherwise;
    }
    void store(real *to, int64_t first, int64_t count) const { std::memcpy(to + first, values, count * sizeof(real)); }
};

// A part of an optional array.
template <class real> INLINE real *at(real *array, int64_t first) { return array ? array + first : nullptr; }

// Have a row of an optional array in the cache by the time it is read, or written.
template <bool WRITE, class real> INLINE void fetch(const real *row, int64_t count) {
    for (int64_t i = 0; row && i < count; i += 64 / sizeof(real)) __builtin_prefetch(row + i, WRITE);
}

} // namespace
