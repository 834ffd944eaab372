"""Frames that count: equal to a plain histogram, and every event in exactly one of them.

python -m tests.events.test_frames 1000            # the same on 1,000 streams
"""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.events import ByBins, ByCount, ByDuration, Events
from spikewright.events.frames import CountFrames
from spikewright.events.sparse import narrow, total
from tests.events.streams import Array, counted, histogram, in_order, stream

SEEDS = range(40)


def dense(mode: CountFrames, events: Events) -> Array:
    steps, places, values = mode.entries(events)
    frames = np.zeros(steps * int(np.prod(mode.feature(events))), np.int64)
    assert steps >= 1 and places.dtype == np.int64 and (np.diff(places) > 0).all() and (values != 0).all()
    frames[places] = values
    return frames.reshape(steps, *mode.feature(events))


def check_bins(seed: int) -> None:
    events, bins = stream(seed), int(np.random.default_rng(seed).integers(1, 40))
    first, last = int(events.t.min()), int(events.t.max())
    frame_of = {}
    for position, (t, *_) in enumerate(in_order(events)):
        share = Fraction((t - first) * bins, last - first) if last > first else Fraction(0)
        frame_of[position] = min(int(share), bins - 1)
    found = dense(ByBins(bins), events)
    assert (found == counted(events, frame_of, bins)).all()
    assert found.sum() == len(events)
    if last - first >= 100 and (last - first) % bins == 0:  # numpy's edges are exact, too
        assert (found == histogram(events, np.linspace(0, last - first, bins + 1))).all()


def check_equal_numbers(seed: int) -> None:
    events, bins = stream(seed), int(np.random.default_rng(seed).integers(1, 40))
    found = dense(ByBins(bins, by="number"), events)
    frame_of = {i: i * bins // len(events) for i in range(len(events))}
    assert (found == counted(events, frame_of, bins)).all()
    each = found.sum((1, 2, 3))
    assert each.sum() == len(events) and each.max() - each.min() <= 1


def check_duration(seed: int) -> None:
    events, draw = stream(seed), np.random.default_rng(seed)
    window = max(1, events.duration // int(draw.integers(1, 40)) + int(draw.integers(0, 3)))
    first, last = int(events.t.min()), int(events.t.max())
    frame_of = {i: (t - first) // window for i, (t, *_) in enumerate(in_order(events))}
    steps = (last - first) // window + 1
    found = dense(ByDuration(window), events)
    assert (found == counted(events, frame_of, steps)).all() and found.sum() == len(events)
    assert (found[:, ...] == histogram(events, np.arange(steps + 1) * float(window))).all()
    whole = (last - first + 1) // window
    if whole == 0:
        with pytest.raises(InputError, match="which does not fill one window"):
            ByDuration(window, last="drop").entries(events)
    else:
        kept = {i: k for i, k in frame_of.items() if k < whole}
        assert (dense(ByDuration(window, last="drop"), events) == counted(events, kept, whole)).all()


def check_count(seed: int) -> None:
    events, each = stream(seed), int(np.random.default_rng(seed).integers(1, 60))
    frame_of = {i: i // each for i in range(len(events))}
    found = dense(ByCount(each), events)
    assert (found == counted(events, frame_of, (len(events) - 1) // each + 1)).all()
    whole = len(events) // each
    if whole == 0:
        with pytest.raises(InputError, match="which does not fill one frame"):
            ByCount(each, last="drop").entries(events)
    else:
        kept = {i: k for i, k in frame_of.items() if k < whole}
        assert (dense(ByCount(each, last="drop"), events) == counted(events, kept, whole)).all()


def check_channels(seed: int) -> None:
    events = stream(seed)
    both = dense(ByBins(5), events)
    assert (dense(ByBins(5, polarity="merged"), events)[:, 0] == both.sum(1)).all()
    assert (dense(ByBins(5, clip=2), events) == both.clip(max=2)).all()
    if events.polarities == 2:
        signed = both[:, 1] - both[:, 0]
        assert (dense(ByBins(5, polarity="signed"), events)[:, 0] == signed).all()
        assert (dense(ByBins(5, polarity="signed", clip=1), events)[:, 0] == signed.clip(-1, 1)).all()


def check_size(seed: int) -> None:
    events, draw = stream(seed), np.random.default_rng(seed)
    height, width = int(draw.integers(1, events.height + 1)), int(draw.integers(1, events.width + 1))
    small = np.zeros((5, events.polarities, height, width), np.int64)
    for step, p, y, x in np.argwhere(full := dense(ByBins(5), events)):
        small[step, p, y * height // events.height, x * width // events.width] += full[step, p, y, x]
    assert (dense(ByBins(5, size=(height, width)), events) == small).all()


CHECKS = [check_bins, check_equal_numbers, check_duration, check_count, check_channels, check_size]


@pytest.mark.parametrize("check", CHECKS)
def test_frames_equal_those_of_a_plain_program(check: object) -> None:
    for seed in SEEDS:
        check(seed)  # pyright: ignore[reportCallIssue]


def events_at(times: list[int], polarity: int = 1) -> Events:
    return Events(*np.array([times, [0] * len(times), [0] * len(times), [polarity] * len(times)]), height=1, width=1)


NONE = Events(*np.zeros((4, 0), np.int64), height=3, width=5)


@pytest.mark.parametrize(
    ("mode", "steps"),
    [
        (ByBins(7), 7),
        (ByBins(7, by="number"), 7),
        (ByDuration(10), 1),
        (ByDuration(10, last="drop"), 1),
        (ByCount(4), 1),
    ],
)
def test_a_recording_without_events_has_frames_of_zeros_of_the_right_shape(mode: CountFrames, steps: int) -> None:
    frames = mode.dense(NONE)
    assert frames.shape == (steps, 2, 3, 5) and frames.dtype == torch.float32 and not frames.any()


def test_the_last_event_is_not_lost_whatever_the_number_of_frames() -> None:
    for bins in range(1, 50):
        assert int(ByBins(bins).dense(events_at(list(range(0, 1000, 7)))).sum()) == 143


def test_ten_events_in_nine_microseconds_are_ten_in_a_hundred_frames() -> None:
    frames = ByBins(100).dense(events_at(list(range(10))))
    assert len(frames) == 100 and int(frames.sum()) == 10 and int(frames[-1].sum()) == 1


def test_a_last_window_is_kept_unless_it_is_dropped_by_name() -> None:
    events = events_at(list(range(0, 10501, 500)))
    assert ByDuration(1000).dense(events)[:, 1, 0, 0].tolist() == [2] * 10 + [2]
    assert ByDuration(1000, last="drop").dense(events)[:, 1, 0, 0].tolist() == [2] * 10
    at_the_end = events_at(list(range(0, 10001, 500)))
    assert ByDuration(1000).dense(at_the_end)[:, 1, 0, 0].tolist() == [2] * 10 + [1]
    full = events_at([0, 999, 1000, 1999])
    assert len(ByDuration(1000, last="drop").dense(full)) == 2  # an event in the last microsecond fills a window


def test_counts_do_not_wrap() -> None:
    for number, kind in [(255, np.uint8), (256, np.int16), (32_767, np.int16), (40_000, np.float32)]:
        _, _, values = ByBins(1).entries(events_at([3] * number))
        assert values.dtype == kind and float(values[0]) == number
    _, _, values = ByBins(1, polarity="signed").entries(events_at([3] * 40_000, polarity=0))
    assert float(values[0]) == -40_000


def test_counts_beyond_single_precision_are_refused() -> None:
    assert narrow("ByBins", np.array([2**24]))[0] == 2**24
    with pytest.raises(InputError, match="16777217 events of one pixel in one frame"):
        narrow("ByBins", np.array([2**24 + 1]))
    with pytest.raises(InputError, match="16777217 events of one pixel in one frame"):
        narrow("ByBins", np.array([-(2**24) - 1]))


def test_sums_are_the_same_with_and_without_a_table() -> None:
    draw = np.random.default_rng(0)
    places, signs = draw.integers(0, 50, 300), draw.choice([-1, 1], 300)
    for weights in (None, signs, signs / 4):
        small, large = total(places, 50, weights), total(places, 10**9, weights)
        assert (small[0] == large[0]).all() and (small[1] == large[1]).all()


def test_unsorted_events_are_sorted_and_none_is_lost() -> None:
    shuffled = np.random.default_rng(0).permutation(1000)
    for mode in (ByBins(10), ByDuration(100), ByCount(100), ByBins(10, by="number")):
        assert mode.dense(events_at(shuffled.tolist())).sum((1, 2, 3)).tolist() == [100] * 10


def test_events_are_not_written_to() -> None:
    times = np.array([5, 3, 9])
    events = Events(times, times % 2, times % 2, times * 0, height=2, width=2, polarities=1)
    before = [array.copy() for array in (events.t, events.x, events.y, events.p)]
    ByBins(2, polarity="merged", size=(1, 1)).entries(events)
    assert all((a == b).all() for a, b in zip(before, (events.t, events.x, events.y, events.p)))


def test_a_sensor_of_one_polarity_has_one_channel_and_no_sign() -> None:
    events = Events(*np.zeros((4, 3), np.int64), height=1, width=700, polarities=1)
    assert ByBins(4).dense(events).shape == (4, 1, 1, 700)
    with pytest.raises(InputError, match="one polarity, whose events all say 0"):
        ByBins(4, polarity="signed").entries(events)


def test_opposite_events_cancel_to_no_entry() -> None:
    events = Events(*np.array([[0, 0], [0, 0], [0, 0], [0, 1]]), height=1, width=1)
    steps, places, _ = ByBins(2, polarity="signed").entries(events)
    assert (steps, len(places)) == (2, 0)


def test_windows_may_begin_elsewhere_but_no_event_may_lie_before() -> None:
    events = events_at([2500, 3000])
    assert ByDuration(1000, start="zero").dense(events)[:, 1, 0, 0].tolist() == [0, 0, 1, 1]
    assert ByDuration(1000, start=2000).dense(events)[:, 1, 0, 0].tolist() == [1, 1]
    assert ByBins(3, start="zero").dense(events)[:, 1, 0, 0].tolist() == [0, 0, 2]
    with pytest.raises(InputError, match="1 of 2 events are earlier, the first at 2500 us"):
        ByDuration(1000, start=2501).entries(events)


def test_times_of_clocks_since_1970_from_zero_on_do_not_overflow() -> None:
    late = 1_700_000_000_000_000
    frames = ByBins(100_000, start="zero").entries(events_at([late // 2, late]))
    assert frames[1].tolist() == [50_000 * 2 + 1, 99_999 * 2 + 1]


def test_a_damaged_time_does_not_make_a_billion_frames() -> None:
    with pytest.raises(InputError, match="1000000001 steps, more than 1000000"):
        ByDuration(1).entries(events_at([0, 10**9]))


WRONG = [
    (lambda: ByBins(0), ConfigError),
    (lambda: ByBins(True), ConfigError),
    (lambda: ByBins(2, by="events"), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByDuration(0), ConfigError),
    (lambda: ByDuration(1.5), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByDuration(5, last="pad"), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByCount(5, start="zero"), ConfigError),
    (lambda: ByBins(2, size=(4,)), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByBins(2, size=(0, 4)), ConfigError),
    (lambda: ByBins(2, polarity="on"), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByBins(2, clip=0), ConfigError),
    (lambda: ByBins(2, start=-1), ConfigError),
    (lambda: ByBins(2, start="last"), ConfigError),  # pyright: ignore[reportArgumentType]
    (lambda: ByBins(2, size=(4, 5)).entries(NONE), ShapeError),
]


@pytest.mark.parametrize(("make", "kind"), WRONG)
def test_wrong_settings_are_refused(make: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        make()  # pyright: ignore[reportCallIssue]


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        for check in CHECKS:
            check(number)
    print(f"{sys.argv[1]} streams: all frames equal")
