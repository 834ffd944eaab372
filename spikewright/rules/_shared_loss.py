"""The loss of a batch that several processes share."""

import torch
from torch import Tensor

from spikewright._util.criterion import Criterion
from spikewright._util.share import Share, current_share
from spikewright.losses import Loss


class SharedLoss(Loss):
    """The loss of the whole batch, for a process that has a part of it.

    Outputs and targets of all processes are collected, and the loss is called with them, so that it is exact for every
    criterion: a sum, ignored labels, weights of classes, terms that couple samples.  Its gradient reaches the outputs
    of this process; the gradients of all processes add up to that of the batch.  Every process has to call it as often.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: Loss) -> None:
        super().__init__(loss.criterion)
        self.loss, self.per_step, self.of_mean, self.head = loss, loss.per_step, loss.of_mean, loss.head
        self.penalty = loss.penalty
        self._targets: tuple[Tensor, Tensor] | None = None

    @property
    def batch_axis(self) -> int:
        return self.loss.batch_axis

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        share = _share()
        return self.loss(share.gather(output, 1), self._whole(share, y), steps, start)

    def terms(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        """Return what each step and sample of this process adds to the loss, `[time, batch]`."""
        share = _share()
        return share.own(self.loss.terms(share.gather(output, 1), self._whole(share, y), steps, start), 1)

    def at_mean(self, output: Tensor, y: Tensor, steps: int) -> Tensor:
        share = _share()
        return self.loss.at_mean(share.gather(output), self._whole(share, y), steps)

    def mean(self, output: Tensor) -> Tensor:
        return self.loss.mean(output)

    def reduced(self, output: Tensor) -> Tensor:
        return self.loss.reduced(output)

    def scores(self, output: Tensor) -> Tensor:
        return self.loss.scores(output)

    def without_penalty(self) -> Loss:
        return SharedLoss(self.loss.without_penalty())

    def correct(self, output: Tensor, y: Tensor, lengths: Tensor | None = None) -> int:
        return self.loss.correct(output, y, lengths)

    def labelled(self, y: Tensor) -> int:
        return self.loss.labelled(y)

    def weight(self, output: Tensor, y: Tensor) -> float:
        return self.loss.weight(output, y)

    def by(self, criterion: Criterion) -> Loss:
        return SharedLoss(self.loss.by(criterion))

    def check(self, y: Tensor, steps: int, batch: int, classes: int) -> None:
        self.loss.check(y, steps, batch, classes)

    def _whole(self, share: Share, y: Tensor) -> Tensor:
        """Return the targets of the whole batch, which are collected once."""
        if self._targets is None or self._targets[0] is not y:
            with torch.no_grad():
                self._targets = y, share.gather(y, self.loss.batch_axis)
        return self._targets[1]

    def __repr__(self) -> str:
        return repr(self.loss)


def _share() -> Share:
    share = current_share()
    assert share is not None  # `Rule.updates` has set it
    return share
