"""Random streams of events, and frames made of them by plain loops and `numpy.histogramdd`."""

from typing import Any

import numpy as np

from spikewright.events import Events

Array = np.ndarray[Any, Any]


def stream(seed: int, most: int = 200) -> Events:
    """Small sensors, short and long spans, many equal times, unsorted in half of the cases; sometimes one moment."""
    draw = np.random.default_rng(seed)
    n, height, width = int(draw.integers(1, most)), int(draw.integers(1, 9)), int(draw.integers(1, 9))
    polarities = 1 if seed % 7 == 0 else 2
    span = int(draw.choice([1, 2, 7, 100, 1000, 10**6, 10**9]))
    t = draw.integers(0, span, n) + int(draw.choice([0, 5, 10**6, 1_700_000_000_000_000]))
    if seed % 2:
        t = np.sort(t)
    x, y, p = draw.integers(0, width, n), draw.integers(0, height, n), draw.integers(0, polarities, n)
    return Events(t, x, y, p, height, width, polarities)


def in_order(events: Events) -> list[tuple[int, int, int, int]]:
    """Return the events as (t, x, y, p) of Python's whole numbers, in the order of time."""
    rows = zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist())
    return sorted(rows, key=lambda row: row[0])


def counted(events: Events, frame_of: dict[int, int], steps: int) -> Array:
    """Return frames by adding 1 for each event of `in_order` whose position has a frame."""
    frames = np.zeros((steps, events.polarities, events.height, events.width), np.int64)
    for position, (_, x, y, p) in enumerate(in_order(events)):
        if position in frame_of:
            frames[frame_of[position], p, y, x] += 1
    return frames


def histogram(events: Events, edges: Array) -> Array:
    """Return frames by numpy's histogram: half-open windows, the last closed, on times from the first event on."""
    t = (events.t - events.t.min()).astype(np.float64)
    where = np.stack([t, events.p, events.y, events.x], 1)
    sides = [np.arange(k + 1) - 0.5 for k in (events.polarities, events.height, events.width)]
    return np.histogramdd(where, [edges, *sides])[0].astype(np.int64)
