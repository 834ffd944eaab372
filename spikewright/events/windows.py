"""Which frame an event belongs to: whole-number arithmetic, so that no event is lost to rounding or counted twice."""

from typing import Any, Literal

import numpy as np

from spikewright._util.ranges import MOST, check_choice, check_count
from spikewright.errors import InputError
from spikewright.events.recording import Events

Array = np.ndarray[Any, Any]
Last = Literal["keep", "drop"]
Start = Literal["first", "zero"] | int


def check_start(owner: str, start: object) -> None:
    """Raise `ConfigError` unless an origin of time is "first", "zero" or a whole number of at least 0."""
    if isinstance(start, str):
        check_choice(owner, "start", start, ("first", "zero"))
    else:
        check_count(owner, "start", start, "start is 'first', 'zero', or a time in microseconds", 0)


def check_last(owner: str, last: object) -> None:
    """Raise `ConfigError` unless the choice for a last window that is not full is "keep" or "drop"."""
    check_choice(owner, "last", last, ("keep", "drop"))


def origin(owner: str, events: Events, start: Start) -> int:
    """Return the time in microseconds at which the first window begins; there is at least one event.

    Args:
        owner: Name of the mode, for the message.
        events: In the order of time.
        start: "first" for the first event, "zero" for 0, or a time.

    Raises:
        InputError: Events are earlier than that.
    """
    if start == "first":
        return int(events.t[0])
    begin = 0 if start == "zero" else int(start)
    early = int(np.searchsorted(events.t, begin))
    if early:
        raise InputError(
            f"{owner}(start={start!r}) begins at {begin} us, but {early} of {len(events)} events are earlier, the "
            f"first at {int(events.t[0])} us. They belong to no frame, and none is left out silently. Take a start "
            "of at most that time, or leave them out yourself: events.at(events.t >= start)."
        )
    return begin


def edges_of_bins(first: int, last: int, bins: int) -> Array:
    """Return where windows of equal length begin: the first whole microseconds in them, int64 `[bins]`.

    Window k holds the times from first + k (last - first) / bins on, up to where the next begins; the last window holds
    `last` too.  Python's whole numbers do not overflow, whatever the times are.
    """
    span = last - first
    return np.array([first - (-k * span // bins) for k in range(bins)], dtype=np.int64)


def cuts(t: Array, edges: Array) -> Array:
    """Return where each window begins in rising times, and the number of times at the end, int64 `[windows + 1]`.

    Args:
        t: Times in order, none before the first edge.
        edges: Where windows begin, not falling.
    """
    inner = np.searchsorted(t, edges[1:], side="left")
    return np.concatenate([[0], inner, [len(t)]]).astype(np.int64)


def cuts_of_bins(t: Array, first: int, bins: int) -> tuple[Array, Array]:
    """Return where each of some windows of equal length begins in rising times, and the last microsecond of each.

    Recordings of a single moment have all events in the first window.
    """
    last = int(t[-1])
    edges = edges_of_bins(first, last, bins)
    ends = np.append(edges[1:] - 1, last)
    if last == first:
        return np.array([0] + [len(t)] * bins, dtype=np.int64), ends
    return cuts(t, edges), ends


def cuts_of_duration(owner: str, t: Array, first: int, microseconds: int, last: Last) -> tuple[Array, Array]:
    """Return where each window of a given length begins in rising times, and the last microsecond of each.

    Args:
        owner: Name of the mode, for the message.
        t: Times in order, at least one.
        first: Where the first window begins.
        microseconds: Length of a window.
        last: What becomes of the last window, unless the recording fills it to its last microsecond.
    """
    reached = int(t[-1]) - first + 1
    whole, rest = divmod(reached, microseconds)
    if last == "drop" and whole == 0:
        raise InputError(
            f"{owner}(microseconds={microseconds}, last='drop') got a recording of {reached} us, which does not fill "
            "one window, so that all of its events would be dropped. Take shorter windows, or last='keep'."
        )
    windows = whole + (1 if rest and last == "keep" else 0)
    check_windows(owner, windows, f"windows of {microseconds} us", f"a recording of {reached} us")
    edges = first + np.arange(windows + 1, dtype=np.int64) * microseconds
    return np.searchsorted(t, edges, side="left").astype(np.int64), edges[1:] - 1


def cuts_of_count(owner: str, number: int, count: int, last: Last) -> Array:
    """Return where each group of `count` events begins among `number`, and where the last ends.

    Args:
        owner: Name of the mode, for the message.
        number: Number of events, at least 1.
        count: Events of a group.
        last: What becomes of the last group, if it has fewer.
    """
    whole, rest = divmod(number, count)
    if last == "drop" and whole == 0:
        raise InputError(
            f"{owner}(events={count}, last='drop') got a recording of {number} events, which does not fill one frame, "
            "so that all of them would be dropped. Take fewer events for a frame, or last='keep'."
        )
    groups = whole + (1 if rest and last == "keep" else 0)
    check_windows(owner, groups, f"frames of {count} events", f"a recording of {number} events")
    return np.minimum(np.arange(groups + 1, dtype=np.int64) * count, number)


def check_windows(owner: str, windows: int, asked: str, found: str) -> None:
    """Raise `InputError` if a recording would have more steps than anything is computed with."""
    if windows > MOST:
        raise InputError(
            f"{owner} asks for {asked}, and got {found}: {windows} steps, more than {MOST}. A damaged time makes such "
            "a recording, or a unit other than microseconds. Look at events.t, or take longer windows."
        )
