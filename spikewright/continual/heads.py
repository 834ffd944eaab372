"""A loss over the outputs of a sample's own task, for readouts with one head per task."""

import torch
from torch import Tensor

from spikewright._util.criterion import Criterion
from spikewright._util.lengths import Lengths
from spikewright.errors import InputError
from spikewright.losses import Loss


class TaskLoss(Loss):
    """A loss over the outputs of one head, for a readout that holds the heads of all tasks side by side.

    Labels index the outputs of all tasks, so a label y selects the head `y // head`. Other heads get no gradient.

    Args:
        loss: `Loss` of the outputs of a head and the class within it.
        head: Number of outputs per head, at least 1.
    """

    def __init__(self, loss: Loss, head: int) -> None:
        super().__init__(loss.criterion)
        self.loss = loss
        self.head, self._size = head, head
        self.per_step, self.of_mean, self.timed = loss.per_step, loss.of_mean, loss.timed
        self.penalty = loss.penalty

    @property
    def batch_axis(self) -> int:
        return self.loss.batch_axis

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self.loss(self.of_task(output, y), y % self._size, steps, start)

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self.loss.terms(self.of_task(output, y), y % self._size, steps, start)

    def at_mean(self, output: Tensor, y: Tensor, steps: int) -> Tensor:
        return self.loss.at_mean(self.of_task(output.unsqueeze(0), y)[0], y % self._size, steps)

    def mean(self, output: Tensor) -> Tensor:
        return self.loss.mean(output)

    def reduced(self, output: Tensor) -> Tensor:
        return self.loss.reduced(output)

    def scores(self, output: Tensor) -> Tensor:
        return self.loss.scores(output)

    def without_penalty(self) -> "TaskLoss":
        return TaskLoss(self.loss.without_penalty(), self._size)

    def correct(self, output: Tensor, y: Tensor, lengths: Tensor | None = None) -> int:
        return self.loss.correct(self.of_task(output, y), y % self._size, lengths)

    def labelled(self, y: Tensor) -> int:
        return self.loss.labelled(y % self._size)

    def weight(self, output: Tensor, y: Tensor) -> float:
        return self.loss.weight(self.of_task(output, y), y % self._size)

    def over(self, lengths: Lengths) -> "TaskLoss":
        return TaskLoss(self.loss.over(lengths), self._size)

    def by(self, criterion: Criterion) -> Loss:
        return self.loss.by(criterion)

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise InputError(
                f"{self} was given labels from {int(y.min())} to {int(y.max())}, but the network has {classes} "
                "outputs, which are the heads of all tasks. Labels index all of them. Give labels from 0 to "
                f"{classes - 1}."
            )
        self.loss.check(y % self._size, steps, batch, self._size)

    def of_task(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the outputs of each sample's task, `[time, batch, head]`, from all outputs `[time, batch, all]`."""
        first = (y - y % self._size).unsqueeze(-1) + torch.arange(self._size, device=y.device)
        return output.gather(-1, first.expand(*output.shape[:2], -1))

    def __repr__(self) -> str:
        return f"TaskLoss({self.loss}, head={self.head})"
