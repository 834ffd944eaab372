"""Clocks that start again at 0: times that go on, from counters that do not."""

import numpy as np

from spikewright.events.readers.content import Array, Content


def ticking(content: Content, counter: Array, period: int, tick: int, offsets: Array | range) -> Array:
    """Return the readings of a counter that is written now and then, and never runs back.

    A step is taken as one forward, modulo the period.  More than three quarters of a period at once would more likely
    be a step back, which the counter cannot make, so it is refused.

    Args:
        content: The file, for messages.
        counter: Readings `[n]`, from 0 to period - 1.
        period: Number of counts after which the counter is at 0 again.
        tick: Microseconds of a count, for messages.
        offsets: Position of the first byte of each reading, `[n]`.

    Returns:
        Counts `[n]`, int64, that begin with the first reading.

    Raises:
        DatasetCorrupt: The counter runs back, or stood still for so long that both could be.
    """
    counter = counter.astype(np.int64)
    steps = np.diff(counter) % period
    far = steps > period * 3 // 4
    if far.any():
        place = int(far.argmax())
        raise content.wrong(
            int(offsets[place + 1]),
            f"the clock goes from {int(counter[place])} to {int(counter[place + 1])} of {period} counts of {tick} us. "
            f"That is a step back, or a silence of {int(steps[place]) * tick / 1e6:.6g} s, in which nobody can tell "
            "how often it began again",
        )
    return np.concatenate([counter[:1], counter[:1] + np.cumsum(steps)])


def running_on(content: Content, stamps: Array, period: int, offsets: Array | range) -> Array:
    """Return times of events that need not be in order, from stamps that start again at 0.

    A step back by half of the period or more is a new start; a shorter one is an event out of order.  A step forward
    by half of the period or more could be either of two things, and is refused.

    Args:
        content: The file, for messages.
        stamps: Microseconds `[n]`, from 0 to period - 1.
        period: Microseconds after which the clock is at 0 again.
        offsets: Position of the first byte of each event, `[n]`.

    Returns:
        Microseconds `[n]`, int64, that begin with the first stamp.

    Raises:
        DatasetCorrupt: A stamp is half of the period or more ahead of the one before it.
    """
    stamps = stamps.astype(np.int64)
    steps = np.diff(stamps)
    far = steps >= period // 2
    if far.any():
        place = int(far.argmax())
        raise content.wrong(
            int(offsets[place + 1]),
            f"event {place + 1} has the time {int(stamps[place + 1])} after {int(stamps[place])} us. The clock starts "
            f"again at 0 after {period} us, so this is a long silence, or an event out of order across such a start",
        )
    stamps[1:] += period * np.cumsum(steps <= -(period // 2))
    return stamps
