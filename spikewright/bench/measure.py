"""Paired timing: in every repeat each contender has its turn, there and back again, so that drift hits all alike."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

Tell = Callable[[str], None]
"""Takes a line on what is going on."""


class Timed(Protocol):
    """A step that can be repeated."""

    def clear(self) -> None:
        """Put things back to where a step starts; not timed."""

    def run(self) -> object:
        """Do the step."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value; quartiles lie within them."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Times:
    """What was measured.

    Attributes:
        seconds: Of a step, by contender, one entry per repeat.
        left_out: Contenders that failed, and why.
    """

    seconds: dict[str, list[float]]
    left_out: dict[str, str]

    def ratios(self, name: str, reference: str) -> list[float] | None:
        """Return seconds of `name` over those of `reference`, repeat by repeat; `None` without a reference."""
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

    A step that raises is left out from then on, and its times are dropped, since they would be paired no longer.

    Args:
        steps: By name.
        repeats: Timed turns of each.
        warm_up: Turns of each before those.
        in_a_row: Steps of a turn, of which the median counts.  In training a step follows one of its own kind, and
            finds in the caches what that has left there; the first of a turn finds what others have left.
        tell: Told what runs next.
        clock: In seconds.
    """
    going = dict(steps)
    seconds: dict[str, list[float]] = {name: [] for name in going}
    left_out: dict[str, str] = {}
    with _no_collector():
        for turn in range(-warm_up, repeats):
            for name in list(going) if turn % 2 == 0 else list(going)[::-1]:
                tell(f"{name}, " + (f"repeat {turn + 1} of {repeats}" if turn >= 0 else "warm-up"))
                try:
                    gc.collect()  # walks through memory, so not between steps of a turn
                    taken = statistics.median([_time(going[name], clock) for _ in range(in_a_row)])
                except Exception as error:
                    left_out[name] = reason(error)
                    del going[name], seconds[name]
                else:
                    seconds[name] += [taken] if turn >= 0 else []
    return Times(seconds, left_out)


class ChildFailed(Exception):
    """What a process of its own died of, in one line."""


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
    """Keep the garbage collector out of timed code; what is there already need not be looked at between steps."""
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
