"""What a pass knows of the tensors in which time is folded into the batch, `[time * batch, *feature]`."""

import weakref

import torch
from torch import Tensor

from spikewright.temporal import is_static


class _Mark:
    """Recognises the entries of a tensor, in whatever view of all of them, for as long as nobody writes to it."""

    def __init__(self, x: Tensor) -> None:
        self._root, self._version = weakref.ref(_root(x)), x._version

    def is_on(self, x: Tensor) -> bool:
        root = _root(x)
        same = self._root() is root and x.numel() == root.numel() and x._version == self._version
        return same and _read_as(x) == _read_as(root)


def _read_as(x: Tensor) -> tuple[object, ...]:
    """Return how the memory of a tensor is read, which a view may change: another type, conjugated, negated."""
    return x.dtype, x.is_conj(), x.is_neg()


def _root(x: Tensor) -> Tensor:
    return x if x._base is None else x._base


def _can_be_marked(x: Tensor) -> bool:
    """Whether `x` is all of its memory, and it will be noticed if somebody writes to it."""
    return not torch.compiler.is_compiling() and not x.is_inference() and x.numel() == _root(x).numel()


class FoldedTime:
    """Folds and unfolds the tensors of one pass, and remembers of each whether it repeats one step or holds spikes.

    Args:
        steps: Of the pass.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._repeated: list[tuple[_Mark, Tensor]] = []
        self._spikes: list[_Mark] = []

    def fold(self, x: Tensor, spikes: bool = False) -> Tensor:
        """Fold `x` `[time, batch, *feature]`; `spikes` says that it holds zeros and ones."""
        folded = x.flatten(0, 1)
        if self.steps > 1 and is_static(x) and _can_be_marked(folded):
            self._repeated.append((_Mark(folded), x))
        if spikes and _can_be_marked(folded):
            self._spikes.append(_Mark(folded))
        return folded

    def unfold(self, x: Tensor) -> Tensor:
        """Return `x` as `[time, batch, *feature]`; one repeated step without a copy, where it is known to be one."""
        for mark, steps in self._repeated:
            if x.shape[1:] == steps.shape[2:] and x.is_contiguous() and mark.is_on(x):
                return steps
        return torch.unflatten(x, 0, (self.steps, -1))

    def repeats(self, x: Tensor) -> bool:
        """Whether `x` is known to repeat one step."""
        return any(mark.is_on(x) for mark, _ in self._repeated)

    def holds_spikes(self, x: Tensor) -> bool:
        """Whether `x` is known to hold nothing but zeros and ones."""
        return any(mark.is_on(x) for mark in self._spikes)
