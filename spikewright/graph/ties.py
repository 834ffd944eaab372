"""Answers that other candidates are level with: their rank, and the value of a metric of that rank."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from spikewright._util.ranges import check_known

Ties = Literal["expected", "realistic", "optimistic", "pessimistic"]

SHARE_OF_TIES: dict[Ties, float] = {"expected": 0.5, "realistic": 0.5, "optimistic": 0.0, "pessimistic": 1.0}
"""Fraction of the level candidates that counts as above the answer, by tie rule."""


def tied_rank(above: Tensor, level: Tensor, ties: Ties) -> Tensor:
    """Return the rank, float64, of an answer with `above` candidates above it and `level` with an equal score.

    Raises:
        ConfigError: The tie rule is unknown.
    """
    check_known("The tie rule", ties, SHARE_OF_TIES)
    return 1 + above.double() + SHARE_OF_TIES[ties] * level


def open_places(level: Tensor, ties: Ties) -> Tensor:
    """Return the number of level candidates whose order with the answer is left open, int64: all if "expected"."""
    return level if ties == "expected" else torch.zeros_like(level)


def averaged(worth: Callable[[Tensor], Tensor], ranks: Tensor, tied: Tensor | None = None) -> Tensor:
    """Return the mean of a metric over all orders of an answer and the candidates that are level with it.

    With b such candidates the ranks `rank - b/2` to `rank + b/2` are equally likely.

    Args:
        worth: The metric, from ranks, float64 `[any]`, to values of the same shape.
        ranks: Mean rank of each answer. Shape `[any]`.
        tied: Number b of level candidates whose order is left open. Shape `[any]`. Default: None, 0 everywhere.
    """
    if tied is None or not bool(tied.any()):
        return worth(ranks)
    low, high = (ranks - tied / 2).long() - 1, (ranks + tied / 2).long()
    sums = worth(torch.arange(1, int(high.max()) + 1, dtype=torch.float64, device=ranks.device)).cumsum(0)
    sums = torch.cat([sums.new_zeros(1), sums])
    return torch.where(tied > 0, (sums[high] - sums[low]) / (tied + 1), worth(ranks))
