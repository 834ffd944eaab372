"""Paired timing: contenders alternate in every repeat, back and forth, so that drift affects all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

Tell = Callable[[str], None]
"""Function called with a line of progress."""


class Timed(Protocol):
    """A step that can be repeated."""

    def clear(self) -> None:
        """Restore the state before a step; not timed."""

    def run(self) -> object:
        """Run the step."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return median and quartiles of at least one value; the quartiles lie within the values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Times:
    """Measured times.

    Attributes:
        seconds: Seconds per step of each contender, one entry per repeat.
        left_out: Reason of each contender that failed.
    """

    seconds: dict[str, list[float]]
    left_out: dict[str, str]

    def ratios(self, name: str, reference: str) -> list[float] | None:
        """Return seconds of `name` over those of `reference`, repeat by repeat; `None` if the reference failed."""
        if reference not in self.seconds:
            return None
        return [a / b for a, b in zip(self.seconds[name], self.seconds[reference])]


def interleave(
    steps: Mapping[str, Timed],
    repeats: int,
    warm_up: int = 2,
    in_a_row: int = 1,
    tell: Tell = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Time steps in turn.

    A step that raises is left out from then on, and its times are dropped.

    Args:
        steps: Steps by name.
        repeats: Timed turns of each step, at least 1.
        warm_up: Untimed turns of each step before those, at least 0. Default: 2.
        in_a_row: Runs per turn, of which the median counts, at least 1. Default: 1. With more, the caches hold what the
            previous run of the same step left there, as in training.
        tell: Function called with a line before each turn. Default: a function that does nothing.
        clock: Function that returns seconds. Default: `time.perf_counter`.
    """
    going = dict(steps)
    seconds: dict[str, list[float]] = {name: [] for name in going}
    left_out: dict[str, str] = {}
    with _no_collector():
        for turn in range(-warm_up, repeats):
            for name in list(going) if turn % 2 == 0 else list(going)[::-1]:
                tell(f"{name}, " + (f"repeat {turn + 1} of {repeats}" if turn >= 0 else "warm-up"))
                try:
                    gc.collect()  # touches all memory, so not between the runs of a turn
                    taken = statistics.median([_time(going[name], clock) for _ in range(in_a_row)])
                except Exception as error:
                    left_out[name] = reason(error)
                    del going[name], seconds[name]
                else:
                    seconds[name] += [taken] if turn >= 0 else []
    return Times(seconds, left_out)


class ChildFailed(Exception):
    """A measuring process failed; the message is its reason in one line."""


def reason(error: Exception) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if type(error) in (ImportError, ChildFailed) else f"{type(error).__name__}: {lines[0]}"


def _time(step: Timed, clock: Callable[[], float]) -> float:
    step.clear()
    began = clock()
    output = step.run()
    ended = clock()
    del output
    step.clear()
    return ended - began


@contextmanager
def _no_collector() -> Iterator[None]:
    """Disable the garbage collector during timed code; objects that exist already are frozen."""
    running, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.collect()
    if not frozen:
        gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        if running:
            gc.enable()
