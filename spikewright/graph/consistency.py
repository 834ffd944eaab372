"""Agreement of two metrics on the order of several models, or of several checkpoints of one model."""

import torch
from torch import Tensor

from spikewright.errors import InputError, ShapeError


def kendall_tau(left: Tensor, right: Tensor) -> float | None:
    r"""Return Kendall's rank correlation of two curves, from -1 (reversed order) to 1 (same order).

    With :math:`s_{ij}, s'_{ij}` the signs of the differences of points i and j in each curve,

    .. math:: \tau_b = \sum s_{ij}\, s'_{ij} \Big/ \sqrt{\sum s_{ij}^2 \textstyle\sum s_{ij}'^2}.

    Args:
        left: Values of one metric. Shape `[K]`, K at least 2.
        right: Values of the other metric at the same points. Shape `[K]`.

    Returns:
        The correlation, or `None` if one of the curves is constant.

    Raises:
        ShapeError: The curves are not vectors of the same length.
        InputError: There are fewer than two points, or a value is not finite.

    Reference:
        Kendall, The Treatment of Ties in Ranking Problems, Biometrika 1945.

    >>> kendall_tau(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    one, other = _signs(left, right)
    spread = float((one.square().sum() * other.square().sum()).sqrt())
    return float((one * other).sum()) / spread if spread else None


def discordant(left: Tensor, right: Tensor) -> float:
    """Return the fraction of pairs of points that two curves put in opposite order.

    Args:
        left: Values of one metric. Shape `[K]`, K at least 2.
        right: Values of the other metric at the same points. Shape `[K]`.

    Raises:
        ShapeError: The curves are not vectors of the same length.
        InputError: There are fewer than two points, or a value is not finite.

    >>> discordant(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    one, other = _signs(left, right)
    return float((one * other < 0).double().mean())


def _signs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sign of the difference of every pair of points, for each curve."""
    if left.dim() != 1 or left.shape != right.shape:
        raise ShapeError(
            f"Two curves over the same points are compared; these are {list(left.shape)} and {list(right.shape)}. Give "
            "both metrics at every point, [K] each."
        )
    curves = torch.stack([left.double(), right.double()])
    if len(left) < 2 or not bool(curves.isfinite().all()):
        raise InputError(
            f"Two curves of {len(left)} points are compared, of which {int((~curves.isfinite()).sum())} values are not "
            "finite. An order needs two points at least, and numbers. Leave out what was not measured."
        )
    one, other = torch.triu_indices(len(left), len(left), 1, device=curves.device)
    signs = (curves[:, one] - curves[:, other]).sign()
    return signs[0], signs[1]
