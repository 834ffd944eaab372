"""Outputs of its own for every task: a loss that looks at those of the sample's task only."""

import torch
from torch import Tensor

from spikewright.errors import InputError
from spikewright.losses import Criterion, Loss


class OfTask(Loss):
    """A loss of the outputs of one head, where the readout holds the heads of all tasks side by side.

    A label counts through all outputs, so it says the task too; the other heads get no gradient.

    Args:
        loss: Of the outputs of a head and the class in it.
        head: Number of outputs of a head.
    """

    def __init__(self, loss: Loss, head: int) -> None:
        super().__init__(loss.criterion)
        self.loss = loss
        self.head, self._size = head, head
        self.per_step = loss.per_step

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self.loss(self.of_task(output, y), y % self._size, steps, start)

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return self.loss.terms(self.of_task(output, y), y % self._size, steps, start)

    def mean(self, output: Tensor) -> Tensor:
        return self.loss.mean(output)

    def correct(self, output: Tensor, y: Tensor) -> int:
        return self.loss.correct(self.of_task(output, y), y % self._size)

    def by(self, criterion: Criterion) -> Loss:
        return self.loss.by(criterion)

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < classes:
            raise InputError(
                f"{self} was given labels from {int(y.min())} to {int(y.max())}, but the network has {classes} "
                "outputs, which are the heads of all tasks. Labels count through all of them."
            )
        self.loss.check(y % self._size, steps, batch, self._size)

    def of_task(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the outputs `[time, batch, head]` of every sample's task, of `[time, batch, all]`."""
        first = (y - y % self._size).unsqueeze(-1) + torch.arange(self._size, device=y.device)
        return output.gather(-1, first.expand(*output.shape[:2], -1))

    def __repr__(self) -> str:
        return f"OfTask({self.loss}, head={self.head})"
