"""Anderson acceleration: the combination of the last iterates whose residual is smallest."""

import torch
from torch import Tensor

from spikewright._util.ranges import check_count
from spikewright.solvers._base import Iterative, Map, Report


class Anderson(Iterative):
    r"""Anderson acceleration: fixed-point iteration that extrapolates from its last iterates, sample by sample.

    With :math:`r_i = J^\top v_i + g - v_i` the residual of iterate i, :math:`\Delta v, \Delta r` the matrices of the
    last differences of iterates and residuals, and J, g as in :math:`v = J^\top v + g`,

    .. math::
        v_{i+1} = v_i + r_i - (\Delta v + \Delta r)\,\gamma, \qquad
        \gamma = \mathrm{arg\,min}_\gamma \|r_i - \Delta r\,\gamma\|.

    On a linear equation it is essentially GMRES with a sliding window.  It also converges for many loops that do not
    contract.

    Args:
        iterations: Largest number of products with :math:`J^\top`.  From 1 to 10**6.  Default: 30.
        memory: Number of earlier iterates that are combined.  At least 1.  Default: 5.
        tolerance: Norm of the residual, relative to g, at which to stop.  > 0.  Default: None, the machine precision to
            the power 3/4.

    Raises:
        ConfigError: `iterations`, `memory` or `tolerance` is not positive.

    Reference:
        Walker, Ni, Anderson Acceleration for Fixed-Point Iterations, SIAM J. Numer. Anal. 2011.

    Examples:
        >>> import torch, spikewright as sw
        >>> v, report = sw.solvers.Anderson().solve(lambda v: 0.5 * v, torch.ones(1, 3))
        >>> torch.allclose(v, torch.full((1, 3), 2.0)), report.converged
        (True, True)
    """

    def __init__(self, iterations: int = 30, memory: int = 5, tolerance: float | None = None) -> None:
        super().__init__(iterations, tolerance)
        check_count("Anderson", "memory", memory, "at least one earlier iterate is combined with the last")
        self.memory = memory

    def solve(self, product: Map, g: Tensor) -> tuple[Tensor, Report]:
        best, v = self.best(product, g), g
        steps: list[Tensor] = []  # differences of iterates and of their residuals, [problem, size]
        changes: list[Tensor] = []
        before: tuple[Tensor, Tensor] | None = None
        for _ in range(self.iterations):
            residual = product(v) + g - v
            if best.done(v, residual):
                break
            if before is not None:
                steps, changes = (
                    [*steps, v - before[0]][-self.memory :],
                    [*changes, residual - before[1]][-self.memory :],
                )
            before = v, residual
            v = v + residual
            if steps:
                v = v - _combined(steps, changes, residual)
        return best.v, best.report()


def _combined(steps: list[Tensor], changes: list[Tensor], residual: Tensor) -> Tensor:
    """Return the part of the step that earlier steps show to be wrong, by least squares on their residuals."""
    change = torch.stack(changes, 1)  # [problem, memory, size]
    size = torch.linalg.vector_norm(change, dim=(1, 2), keepdim=True)
    size = torch.where(size == 0, 1, size)  # a problem that is solved does not change any more
    unit = change / size
    ridge = torch.finfo(unit.dtype).eps * torch.eye(len(changes), dtype=unit.dtype, device=unit.device)
    weights = torch.linalg.solve(unit @ unit.mT + ridge, unit @ residual.unsqueeze(2))  # [problem, memory, 1]
    return (weights * (torch.stack(steps, 1) + change) / size).sum(1)
