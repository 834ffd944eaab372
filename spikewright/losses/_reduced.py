"""The base of losses that reduce the outputs of a sequence to one output, and apply the criterion to that."""

from torch import Tensor

from spikewright._util.criterion import check_sequence
from spikewright.losses._base import Loss


class Reduced(Loss):
    """Base of losses whose criterion is given `reduced(output)`, which is known when the sequence has ended."""

    per_step = False
    takes_lengths = True

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        check_sequence(output, y)
        return self._applied(self.reduced(output), y)
