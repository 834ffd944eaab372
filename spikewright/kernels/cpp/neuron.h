// What scans of neurons have in common: the reset, and the way back from inputs alone.

#pragma once

#include <vector>

#include "scan.h"

namespace {

constexpr int64_t SEGMENT = 32; // steps that are run again at a time; their potentials stay in the second-level cache

template <class real> struct Neuron {
    real threshold, quantum;
    bool subtract, detach_reset, through_time;
};

template <class real> INLINE real reset(real u, real s, real quantum, bool subtract) {
    return subtract ? u - quantum * s : u * (1 - s);
}

// Takes a block back through all steps, whose potentials are found again from what it carried into the first one:
// once without keeping anything but what is carried between segments, then segment by segment.
//
// run(start, stop, carried, potential) goes forward, and keeps potentials where that is not null;
// back(start, stop, potential, apart) goes back.
template <class real, class Carried, class Run, class Back>
void back_by_segments(int64_t steps, const Carried &first, const Run &run, const Back &back) {
    std::vector<Carried> before{first};
    int64_t start = 0;
    for (; start + SEGMENT < steps; start += SEGMENT) {
        before.push_back(before.back());
        run(start, start + SEGMENT, before.back(), nullptr);
    }
    for (int64_t stop = steps; start >= 0; stop = start, start -= SEGMENT, before.pop_back()) {
        alignas(64) real potential[SEGMENT * BLOCK];
        run(start, stop, before.back(), potential);
        back(start, stop, potential, BLOCK);
    }
}

} // namespace
