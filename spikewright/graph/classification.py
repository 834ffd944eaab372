"""Binary classification metrics over scores: area under the ROC curve and average precision."""

from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright.errors import InputError, ShapeError


def auroc(scores: Tensor, labels: Tensor) -> float:
    """Return the area under the ROC curve: the probability that a true link scores higher than a false one, ties count
    half.

    Args:
        scores: Scores, the higher the more likely true. Shape `[any]`.
        labels: 1 or True for true links, 0 or False for false ones. Shape `[any]`.

    Raises:
        ShapeError: Scores and labels have different shapes, or are not vectors.
        InputError: A score is NaN, a label is neither 0 nor 1, or one of the two classes is missing.

    >>> import torch
    >>> from spikewright.graph import auroc
    >>> auroc(torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1, 1, 0]))
    0.75
    """
    true, false = _by_level(scores, labels)
    won = false.cumsum(0) - false / 2
    return float((true * won).sum() / (true.sum() * false.sum()))


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the mean, over true links, of the precision at the score of that link.

    Links with equal scores pass the threshold together, so the result does not depend on their order.

    Args:
        scores: Scores, the higher the more likely true. Shape `[any]`.
        labels: 1 or True for true links, 0 or False for false ones. Shape `[any]`.

    Raises:
        ShapeError: Scores and labels have different shapes, or are not vectors.
        InputError: A score is NaN, a label is neither 0 nor 1, or one of the two classes is missing.

    >>> import torch
    >>> from spikewright.graph import average_precision
    >>> average_precision(torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1, 1, 0]))
    0.8333333333333333
    """
    true, false = (counts.flip(0) for counts in _by_level(scores, labels))
    found = true.cumsum(0)
    return float((true * found / (found + false.cumsum(0))).sum() / true.sum())


def _by_level(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of true and of false links at each distinct score, in ascending order of score."""
    check_tensor("scores", scores, "[any]")
    check_tensor("labels", labels, "[any]")
    if scores.dim() != 1 or scores.shape != labels.shape:
        raise ShapeError(
            f"Every link has one score and one label, [any] each; there are {list(scores.shape)} scores and "
            f"{list(labels.shape)} labels. Flatten both."
        )
    if bool(scores.isnan().any()):
        raise InputError(
            f"The score of link {int(scores.isnan().nonzero()[0])} is NaN, which has no order. Look for the "
            "first step that is not finite."
        )
    yes = labels == 1
    if not bool((yes | (labels == 0)).all()) or bool(yes.all()) or not bool(yes.any()):
        raise InputError(
            f"The labels of {len(labels)} links are {labels.unique().tolist()[:5]}. An area compares true links with "
            "false ones. Give at least one 1 and one 0, and nothing else."
        )
    values, place = scores.detach().unique(return_inverse=True)
    true, false = (place[chosen].bincount(minlength=len(values)).double() for chosen in (yes, ~yes))
    return true, false
