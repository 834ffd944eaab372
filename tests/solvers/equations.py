"""Random equations `v = J^T v + g`, what solves them, and an eye on how a solver goes about it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikewright.solvers import Anderson, Broyden, FixedPoint, Iterative, Report

SOLVERS: list[Callable[[], Iterative]] = [
    lambda: FixedPoint(2000),
    lambda: FixedPoint(4000, damping=0.5),
    lambda: Anderson(1000),
    lambda: Anderson(1000, memory=1),
    lambda: Anderson(1000, memory=20),
    lambda: Broyden(1000, memory=1000),
    lambda: Broyden(1000),
    lambda: Broyden(1000, memory=3),
]
NAMES = [repr(make()) for make in SOLVERS]


@dataclass
class Equation:
    """A batch of equations, `J` `[problem, size, size]` and `g` `[problem, size]`.

    Attributes:
        seen: What has been multiplied by `J^T` so far.
    """

    jacobian: Tensor
    g: Tensor
    seen: list[Tensor] = field(default_factory=list)

    @property
    def solution(self) -> Tensor:
        return torch.linalg.solve(torch.eye(self.g.shape[1]).to(self.g) - self.jacobian.mT, self.g)

    def product(self, v: Tensor) -> Tensor:
        self.seen.append(v.clone())
        return (v.unsqueeze(1) @ self.jacobian).squeeze(1)

    def residual(self, v: Tensor) -> float:
        """What the equation is off by, relative to its right-hand side."""
        return float((self.product(v) + self.g - v).norm() / self.g.norm())

    def error(self, v: Tensor) -> float:
        return float((v - self.solution).norm() / self.solution.norm())

    def solve(self, solver: Iterative) -> tuple[Tensor, Report]:
        self.seen.clear()
        return solver.solve(self.product, self.g)


def equation(*norms: float, size: int = 20, rank: int | None = None, seed: int = 0) -> Equation:
    """One problem for each spectral norm of J, which has no symmetry."""
    source, rank = torch.Generator().manual_seed(seed), rank or size
    left, right, g = (
        torch.randn(len(norms), *shape, generator=source, dtype=torch.float64)
        for shape in ((size, rank), (rank, size), (size,))
    )
    jacobian = left @ right
    return Equation(jacobian * (torch.tensor(norms) / torch.linalg.matrix_norm(jacobian, 2))[:, None, None], g)


def rotated(*eigenvalues: float, seed: int = 0) -> Equation:
    """One problem whose J is symmetric and has these eigenvalues."""
    source, size = torch.Generator().manual_seed(seed), len(eigenvalues)
    base, _ = torch.linalg.qr(torch.randn(size, size, generator=source, dtype=torch.float64))
    return Equation((base * torch.tensor(eigenvalues)) @ base.T[None], torch.randn(1, size, generator=source))
