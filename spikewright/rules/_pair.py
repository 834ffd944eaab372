"""Two lessons in one update."""

from collections.abc import Callable, Iterator

from torch import Tensor

from spikewright.errors import IncompatibleRule
from spikewright.rules._base import Backward, Rule, Update

Lesson = Callable[[Backward], Iterator[Update]]
"""Learns something, given how to differentiate."""


def together(rule: Rule, lessons: list[tuple[float, Lesson]], backward: Backward) -> Iterator[Update]:
    """Learn several things, weighted, in one update; yields the first one's when `.grad` holds them all.

    Args:
        rule: Who learns.
        lessons: Weight and lesson.
        backward: Of the whole.

    Raises:
        IncompatibleRule: The rule updates several times per sequence.
    """
    first: Update | None = None
    for weight, lesson in lessons:

        def weighted(value: Tensor, weight: float = weight) -> None:
            backward(weight * value)

        updates = list(lesson(weighted))
        if len(updates) != 1:
            raise IncompatibleRule(
                f"{rule} updates {len(updates)} times in a sequence, so that two sequences cannot be learned in one "
                "update. Use the form that updates once (online=False)."
            )
        first = first or updates[0]
    if first is not None:
        yield first
