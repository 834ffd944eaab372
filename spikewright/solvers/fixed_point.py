"""Damped fixed-point iteration; without damping it is the Neumann series."""

from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.solvers._base import Iterative, Map, Report


class FixedPoint(Iterative):
    r"""Iterates :math:`v \leftarrow v + \gamma\,(J^\top v + g - v)`.

    With damping :math:`\gamma = 1` the i-th iterate is the i-th partial sum of the Neumann series.  It converges where
    the feedback contracts; on a loop-free graph, after as many iterations as there are edges.

    Args:
        iterations: See `Iterative`.
        damping: :math:`\gamma` in (0, 1].
        tolerance: See `Iterative`.
        legacy: The iteration of the released code of IDE, which subtracts v twice: its fixed point
            :math:`(2I - J^\top)^{-1} g` is about half the gradient, with the feedback halved.  Only to compare with
            results obtained by it; always runs all iterations.

    Raises:
        ConfigError: `damping` is out of range, or see `Iterative`.

    Reference:
        Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
        NeurIPS 2021, arXiv 2109.14247.
    """

    def __init__(
        self, iterations: int = 30, damping: float = 1.0, tolerance: float | None = None, legacy: bool = False
    ) -> None:
        super().__init__(iterations, tolerance)
        if not 0 < damping <= 1:
            raise ConfigError(f"FixedPoint(damping={damping}): it is the share of a step that is taken, in (0, 1].")
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
