"""What a rule is given to learn, as one value that rules around rules hand on, changed or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from spikewright.errors import IncompatibleRule
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules._base import Backward, Rule, Update
from spikewright.temporal import State


@dataclass(frozen=True)
class Lesson:
    """The arguments of `Rule.updates`."""

    net: Network
    x: Tensor
    y: Tensor
    loss: Loss
    state: State | None
    backward: Backward

    def taken_by(self, rule: Rule) -> Iterator[Update]:
        """Return the updates of a rule that learns this."""
        return rule.updates(self.net, self.x, self.y, self.loss, self.state, self.backward)

    def weighted(self, weight: float) -> "Lesson":
        """Return the same, with gradients that many times as large."""
        return replace(self, backward=lambda value: self.backward(weight * value))


def together(rule: Rule, lessons: Sequence[Lesson]) -> Iterator[Update]:
    """Learn several things in one update; yields the first one's when `.grad` holds them all.

    Raises:
        IncompatibleRule: The rule updates several times per sequence.
    """
    taken = [list(lesson.taken_by(rule)) for lesson in lessons]
    if any(len(updates) != 1 for updates in taken):
        raise IncompatibleRule(
            f"{rule} updates {max(map(len, taken))} times in a sequence, so that two sequences cannot be learned in "
            "one update. Use the form that updates once (online=False)."
        )
    yield taken[0][0]
