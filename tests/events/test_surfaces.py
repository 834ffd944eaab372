"""Voxel grids, time surfaces and decaying counts against plain loops.

python -m tests.events.test_surfaces 1000          # the same on 1,000 streams
"""

import math
import sys

import numpy as np
import pytest
import torch

from spikewright.errors import ConfigError, InputError
from spikewright.events import ByBins, ByDuration, Decayed, Events, Frames, TimeSurface, VoxelGrid
from tests.events.streams import Array, in_order, stream

NONE = Events(*np.zeros((4, 0), np.int64), height=3, width=5)


def close(mode: Frames, events: Events, expected: Array) -> None:
    found = mode.dense(events)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


def check_grid(seed: int) -> None:
    events, bins = stream(seed), int(np.random.default_rng(seed).integers(1, 20))
    rows = in_order(events)
    first, last = rows[0][0], rows[-1][0]
    for polarity in ("both", "merged", "signed") if events.polarities == 2 else ("both", "merged"):
        grid = np.zeros((bins, events.polarities if polarity == "both" else 1, events.height, events.width))
        for t, x, y, p in rows:
            place = (t - first) * (bins - 1) / (last - first) if last > first else 0.0
            for k in range(bins):
                value = max(0.0, 1.0 - abs(k - place)) * ((2 * p - 1) if polarity == "signed" else 1)
                grid[k, p if polarity == "both" else 0, y, x] += value
        close(VoxelGrid(bins, polarity=polarity), events, grid)


def check_surface(seed: int) -> None:
    events = stream(seed)
    rows, draw = in_order(events), np.random.default_rng(seed)
    first, last = rows[0][0], rows[-1][0]
    window, tau = events.duration // int(draw.integers(1, 20)) + 1, float(draw.uniform(0.1, 2)) * events.duration
    steps = (last - first) // window + 1
    ends = [first + (k + 1) * window - 1 for k in range(steps)]
    bins = int(draw.integers(1, 20))
    bounds = [first + -(-(k + 1) * (last - first) // bins) - 1 for k in range(bins - 1)] + [last]
    for windows, closing in ((ByDuration(window), ends), (ByBins(bins), bounds)):
        if isinstance(windows, ByBins) and last == first:
            continue
        surface = np.zeros((len(closing), events.polarities, events.height, events.width))
        for k, end in enumerate(closing):
            for t, x, y, p in rows:  # rising times: the last one that fits stays
                if t <= end:
                    surface[k, p, y, x] = math.exp(-(end - t) / tau)
        close(TimeSurface(windows, tau), events, surface)


def check_decay(seed: int) -> None:
    events = stream(seed)
    rows, draw = in_order(events), np.random.default_rng(seed)
    window, tau = events.duration // int(draw.integers(1, 20)) + 1, float(draw.uniform(0.1, 2)) * events.duration
    first, last = rows[0][0], rows[-1][0]
    steps = (last - first) // window + 1
    held = np.zeros((steps, events.polarities, events.height, events.width))
    for t, x, y, p in rows:  # each event by itself
        begins = (t - first) // window
        for k in range(begins, steps):
            held[k, p, y, x] += math.exp(-window * (k - begins) / tau)
    close(Decayed(ByDuration(window), tau), events, held)


CHECKS = [check_grid, check_surface, check_decay]


@pytest.mark.parametrize("check", CHECKS)
def test_frames_equal_those_of_a_plain_program(check: object) -> None:
    for seed in range(15):
        check(seed)  # pyright: ignore[reportCallIssue]


def test_falling_events_count_minus_one_in_a_grid_whatever_type_polarities_had() -> None:
    for kind in (bool, np.uint8, np.int64):
        p = np.array([0, 0, 0, 1], kind)
        zeros = np.zeros(4, np.int64)
        events = Events(np.arange(4), zeros, zeros, p, height=1, width=1)
        assert float(VoxelGrid(3).dense(events).sum()) == pytest.approx(-2.0)


def test_the_grid_adds_up_to_rising_minus_falling_events() -> None:
    for seed in (1, 2, 3):
        events = stream(seed)
        total = float(2.0 * events.p.sum() - len(events))
        assert float(VoxelGrid(9).dense(events).sum()) == pytest.approx(total, abs=1e-3)


def test_a_surface_reaches_one_and_is_zero_where_nothing_was() -> None:
    events = Events(*np.array([[0, 99], [0, 1], [0, 0], [1, 1]]), height=1, width=3)
    surface = TimeSurface(ByDuration(100), tau=50.0).dense(events)[0, 1, 0]
    assert surface[1] == 1 and surface[2] == 0 and 0 < surface[0] < 0.2


def test_recordings_without_events_have_zeros_of_the_right_shape() -> None:
    modes = {VoxelGrid(4): 4, TimeSurface(ByBins(6), 10.0): 6, TimeSurface(ByDuration(5), 10.0): 1}
    modes[Decayed(ByDuration(5), 10.0)] = 1
    for mode, steps in modes.items():
        frames = mode.dense(NONE)
        assert frames.shape == (steps, 1 if isinstance(mode, VoxelGrid) else 2, 3, 5) and not frames.any()


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ConfigError, match="no counts that could be limited"):
        VoxelGrid(3, clip=1)
    with pytest.raises(ConfigError, match="which has no sign"):
        TimeSurface(ByDuration(5, polarity="signed"), 1.0)
    with pytest.raises(ConfigError, match="needs windows of time"):
        TimeSurface(ByBins(5, by="number"), 1.0)
    with pytest.raises(ConfigError, match=r"TimeSurface.*windows"):
        TimeSurface(VoxelGrid(3), 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"Decayed.*windows"):
        Decayed(ByBins(3), 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError):
        Decayed(ByDuration(3), 0.0)
    with pytest.raises(InputError, match="one polarity"):
        VoxelGrid(3).entries(Events(*np.zeros((4, 1), np.int64), height=1, width=1, polarities=1))


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        for check in CHECKS:
            check(number)
    print(f"{sys.argv[1]} streams: all frames equal")
