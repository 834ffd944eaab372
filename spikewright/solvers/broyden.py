"""Broyden's method with limited memory: an inverse Jacobian that each product corrects by rank one."""

import torch
from torch import Tensor

from spikewright._util.ranges import check_count
from spikewright.solvers._base import Iterative, Map, Report


class Broyden(Iterative):
    r"""Broyden's good method for :math:`J^\top v + g - v = 0`, for each sample separately, from v = 0.

    The inverse Jacobian :math:`B` starts as :math:`-I`.  With :math:`r_i` the residual of iterate i, :math:`s =
    v_{i+1} - v_i` and :math:`y = r_{i+1} - r_i`,

    .. math::
        v_{i+1} = v_i - B_i r_i, \qquad B_{i+1} = B_i + \frac{(s - B_i y)\, s^\top B_i}{s^\top B_i y}.

    It is stored as a sum of at most `memory` products of two vectors.

    Args:
        iterations: Largest number of products with :math:`J^\top`.  From 1 to 10**6.  Default: 30.
        memory: Number of stored products, two vectors of the size of the feedback each; the inverse starts anew when
            they are used up.  At least 1.  Default: 27.
        tolerance: Norm of the residual, relative to g, at which to stop.  > 0.  Default: None, the machine precision to
            the power 3/4.

    Raises:
        ConfigError: `iterations`, `memory` or `tolerance` is not positive.

    Reference:
        Broyden, A Class of Methods for Solving Nonlinear Simultaneous Equations, Math. Comp. 1965; used in Xiao, Meng,
        Zhang, Wang, Lin, Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium
        State, NeurIPS 2021, arXiv 2109.14247.

    Examples:
        >>> import torch, spikewright as sw
        >>> v, report = sw.solvers.Broyden().solve(lambda v: 0.5 * v, torch.ones(1, 3))
        >>> torch.allclose(v, torch.full((1, 3), 2.0)), report.converged
        (True, True)
    """

    def __init__(self, iterations: int = 30, memory: int = 27, tolerance: float | None = None) -> None:
        super().__init__(iterations, tolerance)
        check_count("Broyden", "memory", memory, "at least one rank-one correction is kept")
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
