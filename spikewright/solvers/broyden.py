"""Broyden's method with limited memory: an inverse that each product improves by rank one."""

import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.solvers._base import Iterative, Map, Report


class Broyden(Iterative):
    r"""Broyden's good method for :math:`J^\top v + g - v = 0`, each problem for itself, starting at zero.

    The inverse Jacobian starts as :math:`-I` and is kept as a sum of at most `memory` products of two vectors.

    Args:
        iterations: See `Iterative`.
        memory: Products that are kept, two vectors of the size of the feedback each; after that it starts anew.
        tolerance: See `Iterative`.

    Raises:
        ConfigError: `memory` is below 1, or see `Iterative`.

    Reference:
        Broyden, A Class of Methods for Solving Nonlinear Simultaneous Equations, Math. Comp. 1965; used in
        Xiao et al., NeurIPS 2021, arXiv 2109.14247.
    """

    def __init__(self, iterations: int = 30, memory: int = 27, tolerance: float | None = None) -> None:
        super().__init__(iterations, tolerance)
        if memory < 1:
            raise ConfigError(f"Broyden(memory={memory}): at least one rank-one correction is kept.")
        self.memory = memory

    def solve(self, product: Map, g: Tensor) -> tuple[Tensor, Report]:
        best, v, residual = self.best(product, g), torch.zeros_like(g), g
        # The inverse is -1 + sum over i of columns[:, i] rows[:, i]^T, both [problem, memory, size].
        kept = g.new_empty(2, len(g), min(self.memory, self.iterations), g.shape[1])
        for i in range(self.iterations):
            used = i % (kept.shape[2] + 1)
            columns, rows = kept[:, :, :used]
            step = residual - _sum(columns, rows, residual)  # minus the inverse, times the residual
            v = v + step
            before, residual = residual, product(v) + g - v
            if best.done(v, residual):
                break
            if used == kept.shape[2]:  # each product builds on those before it, so that none can be left out
                continue
            change = residual - before
            along = _sum(rows, columns, step) - step  # the inverse, transposed, times the step
            found = _sum(columns, rows, change) - change
            size = (along * change).sum(1, keepdim=True)
            kept[0, :, used] = torch.where(size == 0, 0, (step - found) / size)
            kept[1, :, used] = along
        return best.v, best.report()


def _sum(columns: Tensor, rows: Tensor, v: Tensor) -> Tensor:
    """Return the sum over i of `columns[:, i] <rows[:, i], v>`, `[problem, size]`."""
    return ((rows @ v.unsqueeze(2)).mT @ columns).squeeze(1)
