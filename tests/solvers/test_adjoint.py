"""The gradient through a fixed point, for a network that is written down here."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.solvers import Adjoint, Edge, FixedPoint, Iterative, Report
from tests.solvers.equations import NAMES, SOLVERS

every_solver = pytest.mark.parametrize("make", SOLVERS, ids=NAMES)
BATCH = 3


class Witness(FixedPoint):
    """Notes what it is given."""

    def solve(self, product: Callable[[Tensor], Tensor], g: Tensor) -> tuple[Tensor, Report]:
        self.g, self.image = g, product(torch.ones_like(g))
        return super().solve(product, g)


class Example:
    """Two feedback connections of different shapes, whose sources read both, and a loss that reads one end."""

    def __init__(self, coupled: bool = False) -> None:
        source = torch.Generator().manual_seed(1)
        self.theta = torch.randn(7, 7, generator=source, requires_grad=True)
        ends = [torch.randn(BATCH, *shape, generator=source, requires_grad=True) for shape in ((3,), (2, 2))]
        weight = 0.4 * torch.randn(7, 7, generator=source) / 7**0.5
        z = torch.cat([end.flatten(1) for end in ends], 1)
        y = torch.tanh(z @ weight.T) @ self.theta.T / 3
        y = y - 0.5 * y.mean(0) if coupled else y
        self.ends, self.sources = ends, (y[:, :3], y[:, 3:].unflatten(1, (2, 2)))
        self.value = (y * torch.randn(7, generator=source)).sum() + (ends[0] ** 2).sum()
        edges = [Edge(str(i), leaf, y) for i, (leaf, y) in enumerate(zip(ends, self.sources))]
        self.adjoint = Adjoint([], edges, coupled)

    def back(self, root: Tensor, given: Tensor | None = None) -> Tensor:
        parts = torch.autograd.grad(root, self.ends, given, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    def row(self) -> Tensor:
        return torch.cat([source.flatten() for source in self.sources])

    def jacobian(self) -> Tensor:
        y = self.row()
        return torch.stack([self.back(y, unit) for unit in torch.eye(len(y))])

    def gradient(self) -> Tensor:
        """By one dense system over the whole batch."""
        j = self.jacobian()
        v = torch.linalg.solve((torch.eye(len(j)) - j).T, self.back(self.value))
        return torch.autograd.grad(self.value + v @ self.row(), self.theta, retain_graph=True)[0]


def found(solver: Iterative, example: Example) -> tuple[Tensor, Report]:
    total, report = solver.loss(example.value, example.adjoint)
    torch.testing.assert_close(total, example.value, rtol=1e-14, atol=1e-14)
    return torch.autograd.grad(total, example.theta, retain_graph=True)[0], report


@every_solver
@pytest.mark.parametrize("coupled", [False, True])
def test_the_gradient_is_that_of_a_dense_solution(make: Callable[[], Iterative], coupled: bool) -> None:
    example = Example(coupled)
    expected, cut = example.gradient(), torch.autograd.grad(example.value, example.theta, retain_graph=True)[0]
    gradient, report = found(make(), example)
    assert report.converged
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
    assert (gradient - cut).norm() > 0.1 * cut.norm()


def test_a_sample_is_a_problem_unless_samples_depend_on_each_other() -> None:
    """All edges are one vector; the product is that with the transposed Jacobian."""
    for coupled, shape in ((False, (BATCH, 7)), (True, (1, 7 * BATCH))):
        example, solver = Example(coupled), Witness(100)
        found(solver, example)
        assert solver.g.shape == shape
        image = example.jacobian().sum(0)  # of ones, edge by edge
        parts = solver.image.split([3, 4] if not coupled else 7 * BATCH, 1)
        torch.testing.assert_close(torch.cat([p.flatten() for p in parts]), image, rtol=1e-13, atol=1e-13)


@every_solver
def test_without_feedback_a_loss_stays_what_it_is(make: Callable[[], Iterative]) -> None:
    value = torch.ones((), requires_grad=True) * 2
    total, report = make().loss(value, Adjoint([], [], False))
    assert total is value and report == Report()


@every_solver
@pytest.mark.parametrize("reads_ends, expected", [(False, 3.0), (True, 6.0)])
def test_a_source_may_have_no_graph_and_a_loss_may_read_no_end(
    make: Callable[[], Iterative], reads_ends: bool, expected: float
) -> None:
    leaf, other, theta = (torch.ones(BATCH, 2, requires_grad=True) for _ in range(3))
    edges = [Edge("open", leaf, torch.ones(BATCH, 2)), Edge("closed", other, 0.5 * other + theta)]
    total, report = make().loss((3 * (leaf * other if reads_ends else theta)).sum(), Adjoint([], edges, False))
    assert report.converged
    torch.testing.assert_close(torch.autograd.grad(total, theta)[0], torch.full((BATCH, 2), expected))
