"""What a projection leaves of the inputs of one linear map, found once and of use twice."""

import torch
from torch import Tensor

from spikewright.rules.continual.subspaces.subspace import Subspace


class ProjectedRows:
    """Projects the rows that a gradient is taken at in one call of a linear map, and keeps their mean over time.

    Rows of one step are kept as they are: where the same input comes step by step, they are projected once.

    Args:
        subspace: Of the weight, with linear lateral neurons.
        x: What the gradient is taken at, `[time, batch, *feature]`.

    Attributes:
        mean: What is left of the mean over time, `[row, size]`; `None` as long as no gradient has been taken, and if
            it was taken in lower precision than that of the subspace.
    """

    def __init__(self, subspace: Subspace, x: Tensor) -> None:
        self._subspace = subspace
        self._rows = x[0].numel() // subspace.size
        self._step, self._version = (x, x._version) if len(x) == 1 else (None, 0)
        self.mean: Tensor | None = None

    def serves(self, x: Tensor) -> bool:
        """Whether `x` is the step that this was made for: the same memory, and nobody has written to it."""
        if self._step is None or self._step._version != self._version or len(x) > 1:
            return False
        mine, other = ((y.data_ptr(), y.shape, y.stride(), y.dtype) for y in (self._step[0], x[0]))
        return mine == other

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """Return what is left of `[time * row, size]`, or of one step that stands for all."""
        once = len(rows) == self._rows
        if once and self.mean is not None:
            return self.mean
        rest = self._subspace.project(rows)
        if rest.dtype == self._subspace.old.dtype:
            self.mean = rest if once else rest.unflatten(0, (-1, self._rows)).mean(0)
        return rest
