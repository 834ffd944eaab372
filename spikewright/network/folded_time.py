"""Tensors of a pass with time folded into the batch, `[time * batch, *feature]`."""

import weakref

import torch
from torch import Tensor

from spikewright.temporal import is_static


class _Mark:
    """Recognises a tensor in any view of all its entries, until it is written to."""

    def __init__(self, x: Tensor) -> None:
        self._root, self._version = weakref.ref(_root(x)), x._version

    def is_on(self, x: Tensor) -> bool:
        root = _root(x)
        same = self._root() is root and x.numel() == root.numel() and x._version == self._version
        return same and _read_as(x) == _read_as(root)


def _read_as(x: Tensor) -> tuple[object, ...]:
    """Return how a view reads its memory: dtype, conjugated, negated."""
    return x.dtype, x.is_conj(), x.is_neg()


def _root(x: Tensor) -> Tensor:
    return x if x._base is None else x._base


def _can_be_marked(x: Tensor) -> bool:
    """True if `x` covers all of its memory, and writes to it are noticed."""
    return not torch.compiler.is_compiling() and not x.is_inference() and x.numel() == _root(x).numel()


class FoldedTime:
    """Folds and unfolds the tensors of one pass, and remembers which repeat one step or hold spikes.

    Args:
        steps: Number of steps of the pass.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._repeated: list[tuple[_Mark, Tensor]] = []
        self._spikes: list[_Mark] = []

    def fold(self, x: Tensor, spikes: bool = False) -> Tensor:
        """Return `x` `[time, batch, *feature]` folded; `spikes` is True if it holds zeros and ones."""
        folded = x.flatten(0, 1)
        if self.steps > 1 and is_static(x) and _can_be_marked(folded):
            self._repeated.append((_Mark(folded), x))
        if spikes and _can_be_marked(folded):
            self._spikes.append(_Mark(folded))
        return folded

    def unfold(self, x: Tensor) -> Tensor:
        """Return `x` as `[time, batch, *feature]`; a known repeated step without a copy."""
        for mark, steps in self._repeated:
            if x.shape[1:] == steps.shape[2:] and x.is_contiguous() and mark.is_on(x):
                return steps
        return torch.unflatten(x, 0, (self.steps, -1))

    def repeats(self, x: Tensor) -> bool:
        """True if `x` is known to repeat one step."""
        return any(mark.is_on(x) for mark, _ in self._repeated)

    def holds_spikes(self, x: Tensor) -> bool:
        """True if `x` is known to hold zeros and ones only."""
        return any(mark.is_on(x) for mark in self._spikes)
