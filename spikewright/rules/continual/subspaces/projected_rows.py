"""Cached projection of the inputs of one linear layer."""

import torch
from torch import Tensor

from spikewright.rules.continual.subspaces.subspace import Subspace


class ProjectedRows:
    """Projects the rows that a gradient is taken at in one call of a linear layer, and keeps their mean over time.

    The rows of a single step are kept, so that an input that is repeated step by step is projected once.

    Args:
        subspace: Subspace of the weight, with linear lateral neurons.
        x: What the gradient is taken at, `[time, batch, *feature]`.

    Attributes:
        mean: Projection of the mean over time, `[row, size]`; `None` before a gradient has been taken, and if it was
            taken in lower precision than that of the subspace.
    """

    def __init__(self, subspace: Subspace, x: Tensor) -> None:
        self._subspace = subspace
        self._rows = x[0].numel() // subspace.size
        self._step, self._version = (x, x._version) if len(x) == 1 else (None, 0)
        self.mean: Tensor | None = None

    def serves(self, x: Tensor) -> bool:
        """Return True if `x` is the step this was made for: the same memory, not written to since."""
        if self._step is None or self._step._version != self._version or len(x) > 1:
            return False
        mine, other = ((y.data_ptr(), y.shape, y.stride(), y.dtype) for y in (self._step[0], x[0]))
        return mine == other

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """Return the projection of `[time * row, size]`, or of one step that stands for all."""
        once = len(rows) == self._rows
        if once and self.mean is not None:
            return self.mean
        projected = self._subspace.project(rows)
        if projected.dtype == self._subspace.old.dtype:
            self.mean = projected if once else projected.unflatten(0, (-1, self._rows)).mean(0)
        return projected
