"""Damped fixed-point iteration; without damping it is the Neumann series."""

from torch import Tensor

from spikewright._util.ranges import check_flag, check_within
from spikewright.solvers._base import Iterative, Map, Report


class FixedPoint(Iterative):
    r"""Damped fixed-point iteration, :math:`v \leftarrow v + \gamma\,(J^\top v + g - v)`, from v = g.

    With damping :math:`\gamma = 1` the i-th iterate is the i-th partial sum of the Neumann series.  It converges if the
    feedback contracts; without loops, after as many iterations as there are feedback connections.

    Args:
        iterations: Largest number of products with :math:`J^\top`.  From 1 to 10**6.  Default: 30.
        damping: Factor :math:`\gamma` of a step.  In (0, 1].  Default: 1.0.
        tolerance: Norm of the residual, relative to g, at which to stop.  > 0.  Default: None, the machine precision to
            the power 3/4.
        legacy: If True, iterate as the released code of IDE, which subtracts v twice: its fixed point :math:`(2I -
            J^\top)^{-1} g` is about half the gradient, with half the feedback.  It runs all iterations, and is only for
            comparison with results obtained by it.  Default: False.

    Raises:
        ConfigError: `iterations` or `tolerance` is not positive, or `damping` is out of range.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Training Feedback Spiking Neural Networks by Implicit Differentiation on the
        Equilibrium State, NeurIPS 2021, arXiv 2109.14247.

    Examples:
        >>> import torch, spikewright as sw
        >>> v, report = sw.solvers.FixedPoint().solve(lambda v: 0.5 * v, torch.ones(1, 3))
        >>> torch.allclose(v, torch.full((1, 3), 2.0)), report.converged
        (True, True)
    """

    def __init__(
        self, iterations: int = 30, damping: float = 1.0, tolerance: float | None = None, legacy: bool = False
    ) -> None:
        super().__init__(iterations, tolerance)
        check_within("FixedPoint", "damping", damping, "(0, 1]", "it is the share of a step that is taken")
        check_flag("FixedPoint", legacy=legacy)
        self.damping, self.legacy = damping, legacy

    def solve(self, product: Map, g: Tensor) -> tuple[Tensor, Report]:
        v = g
        if self.legacy:
            for _ in range(self.iterations):
                v = (v + product(v) - v + g) / 2
            return v, Report(self.iterations, float("nan"))
        best = self.best(product, g)
        for _ in range(self.iterations):
            residual = product(v) + g - v
            if best.done(v, residual):
                break
            v = v + self.damping * residual
        return best.v, best.report()
