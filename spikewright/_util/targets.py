"""Checks of the values of targets."""

import torch
from torch import Tensor, nn

from spikewright._util.criterion import Criterion
from spikewright._util.share import divided_share
from spikewright.errors import InputError, ShapeError

_SHARES = (nn.CrossEntropyLoss, nn.KLDivLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
"""Criteria whose real targets are probabilities."""
_UP_TO_ONE = (nn.BCELoss, nn.BCEWithLogitsLoss)


def ignored_labels(criterion: Criterion, y: Tensor) -> Tensor:
    """Return which targets a criterion ignores, of the shape of the targets.

    Args:
        criterion: The criterion; only one with an `ignore_index` ignores any.
        y: Class indices, or real targets, which are never ignored.
    """
    ignore = getattr(criterion, "ignore_index", None)
    return (
        y == ignore if isinstance(ignore, int) and not y.is_floating_point() else torch.zeros_like(y, dtype=torch.bool)
    )


def check_labels(loss: object, criterion: Criterion, y: Tensor, classes: int, timed: bool = False) -> None:
    """Raise `InputError` unless all targets are class indices, or ignored, and some are not ignored.

    Args:
        loss: Loss that the criterion belongs to, for the message.
        criterion: Criterion that takes class indices.
        y: Targets, `[batch, ...]`, or `[time, batch, ...]` with `timed`.
        classes: Number of outputs.
        timed: True if the targets have a time axis.
    """
    ignore, ignored = getattr(criterion, "ignore_index", None), ignored_labels(criterion, y)
    bad = ((y < 0) | (y >= classes)) & ~ignored
    if bad.any():
        raise InputError(
            f"{loss} needs class indices from 0 to {classes - 1}, because the network has {classes} outputs, but "
            f"{_first(bad)} is {int(y[bad][0])}. Check the labels, or the size of the readout."
        )
    all_ignored = ignored.flatten(1 if timed else 0).all(-1)
    if divided_share() is None and y.numel() and bool(all_ignored.any()):
        where = f" of step {int(all_ignored.nonzero()[0])}" if timed else ""
        advice = "For sequences that end early, give updates(..., lengths=...)." if timed else "Leave the batch out."
        raise InputError(
            f"{loss} was given targets that are all {ignore}{where}, which the criterion ignores: its mean over none "
            f"is no number. {advice}"
        )


def check_values(loss: object, criterion: Criterion, y: Tensor, classes: int, axis: int) -> None:
    """Raise an error if real targets of a criterion of torch are not finite, or no probabilities where it takes those.

    Args:
        loss: Loss that the criterion belongs to, for messages.
        criterion: The criterion; one that is not of torch may take any.
        y: Targets, real numbers.
        classes: Number of outputs.
        axis: Axis of the classes, if there is one.

    Raises:
        ShapeError: Probabilities are of another number of classes than the network has outputs.
        InputError: A target is not finite, is negative, or is above 1, where that means nothing.
    """
    if not type(criterion).__module__.startswith(("torch.nn.", "spikewright.")):
        return
    if isinstance(criterion, nn.CrossEntropyLoss) and y.dim() > axis and y.shape[axis] != classes:
        raise ShapeError(
            f"{loss} was given probabilities of {y.shape[axis]} classes, y of shape {list(y.shape)}, but the network "
            f"has {classes} outputs. There is one probability per output. Check the targets, or the size of the "
            "readout."
        )
    if getattr(criterion, "log_target", False):  # of which minus infinity is one
        y = y.exp()
    shares = isinstance(criterion, _SHARES)
    for bad, what in (
        (~y.isfinite(), "not finite"),
        ((y < 0) & shares, "negative"),
        ((y > 1) & isinstance(criterion, _UP_TO_ONE), "above 1"),
    ):
        if bool(bad.any()):
            why = "A loss of that is not finite either." if what == "not finite" else "Its targets are probabilities."
            raise InputError(
                f"{loss} was given a target that is {what}: {_first(bad)} is {y[bad][0].item():.6g}. {why} Clean the "
                "targets, or check how they are made."
            )


def _first(bad: Tensor) -> str:
    return f"y[{', '.join(map(str, bad.nonzero()[0].tolist()))}]"
