"""Several outputs or targets: packed as one for a rule, and apart again for the criterion."""

from typing import Any, cast

from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.criterion import Criterion
from spikewright.errors import IncompatibleRule
from spikewright.losses import Loss
from spikewright.network.form import Form, Input, is_several, packed, time_first


class PartedCriterion:
    """A criterion that is called with packed outputs and targets, and sees them apart.

    Args:
        criterion: Criterion of outputs and targets as the network and the user give them.
        outputs: Form of the outputs; `None` for one.
        targets: Form of the targets; `None` for one.
    """

    def __init__(self, criterion: Criterion, outputs: Form | None, targets: Form | None) -> None:
        self._criterion, self._outputs, self._targets = criterion, outputs, targets
        self.__name__ = getattr(criterion, "__name__", type(criterion).__name__)

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        """Return what the criterion makes of outputs, `[batch, number]`, and targets, `[batch, ...]`."""
        apart: Any = output if self._outputs is None else self._outputs.unpack(output)
        return self._criterion(apart, y if self._targets is None else self._targets.unpack(y))


def fitted(loss: Loss, y: Input, outputs: Form | None, batch_first: bool = False) -> tuple[Loss, Tensor]:
    """Return the loss and the targets for packed outputs, with time first.

    Args:
        loss: Loss of outputs and targets as they are given.
        y: Targets, `[batch, ...]`, or with a time axis where the loss is timed; or several in a tuple, list or
            dictionary.
        outputs: Form of the outputs of the network; `None` for one.
        batch_first: True if timed targets are `[batch, time, ...]`.  Default: False.

    Raises:
        ShapeError: Targets are no tensors, or do not share a batch.
        IncompatibleRule: Every task has a head of its own.
    """
    y, targets = time_first(y, batch_first and loss.timed) if isinstance(y, Tensor) or is_several(y) else y, None
    if is_several(y):
        y, targets = packed("y", y, 2 if loss.timed else 1, "[time, batch]" if loss.timed else "[batch]")
    check_tensor("y", y, "[batch, ...], with the target of every sample")
    if (outputs is None and targets is None) or isinstance(loss.criterion, PartedCriterion):
        return loss, cast(Tensor, y)
    if loss.head is not None:
        raise IncompatibleRule(
            f"{loss} gives every task a head of one output tensor, but there are several outputs or targets. Return "
            "one output, or use the loss without heads."
        )
    return loss.by(PartedCriterion(loss.criterion, outputs, targets)), cast(Tensor, y)
