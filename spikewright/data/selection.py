"""Balanced and stratified choices of samples, as index tensors."""

import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_seed, check_within


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """Return all indices in a shuffled order in which every prefix is balanced over classes, int64 `[n]`.

    A shorter prefix is part of a longer one.

    Args:
        labels: Classes, int64 `[n]`, each at least 0.
        seed: Seed of the shuffle within each class, from 0 to 2**63 - 1.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> labels[balanced_order(labels, seed=0)].tolist()
    [0, 1, 0, 1, 0, 0]
    """
    by_class, turn = _turns(labels, seed)
    return by_class[turn.argsort(stable=True)]


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the indices into two parts with the same fraction of every class.

    A class with at least two samples has at least one in each part; the sample of a class with one is in the first.

    Args:
        labels: Classes, int64 `[n]`, each at least 0.
        fraction: Fraction of each class in the second part, in (0, 1).
        seed: Seed of the choice, from 0 to 2**63 - 1.

    Returns:
        Two sorted int64 tensors, together `range(n)`.

    Raises:
        ConfigError: `fraction` is not in (0, 1), or `seed` is negative.
    """
    check_within("with_validation", "fraction", fraction, "(0, 1)", "a hold-out leaves samples on both sides")
    check_seed("with_validation", seed)
    by_class, turn = _turns(labels, seed)
    counts = labels.bincount()
    quota = (counts * fraction).round().clamp(min=1).minimum(counts - 1)
    held = turn < quota[labels[by_class]]
    return by_class[~held].sort().values, by_class[held].sort().values


def _turns(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return shuffled indices grouped by class, and the rank of each within its class."""
    shuffled = torch.randperm(len(labels), generator=keyed_generator(seed))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    return by_class, torch.arange(len(labels)) - first[labels[by_class]]
