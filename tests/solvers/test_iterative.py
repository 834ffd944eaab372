"""Every iterative solver solves the equation, as a dense solver does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.solvers import Anderson, Broyden, FixedPoint, Iterative
from tests.solvers.equations import NAMES, SOLVERS, Equation, equation, rotated

every_solver = pytest.mark.parametrize("make", SOLVERS, ids=NAMES)
EQUATIONS = {
    "one": lambda: equation(0.6),
    "different spectra": lambda: equation(0.0, 0.1, 0.5, 0.9),
    "low rank": lambda: equation(0.9, 0.5, rank=2),
    "larger than the memory": lambda: equation(0.9, size=300),
    "one number": lambda: equation(0.7, 0.2, size=1),
    "slow": lambda: rotated(*torch.linspace(-0.95, 0.95, 40).tolist()),
    "slow on one side": lambda: rotated(*torch.linspace(0.1, 0.95, 40).tolist()),
}


@every_solver
@pytest.mark.parametrize("name", EQUATIONS)
def test_the_solution_is_that_of_a_dense_solver(make: Callable[[], Iterative], name: str) -> None:
    problem = EQUATIONS[name]()
    v, report = problem.solve(make())
    assert report.converged and report.reason == ""
    assert problem.error(v) < 1e-10


@every_solver
def test_half_the_digits_in_float32(make: Callable[[], Iterative]) -> None:
    exact = equation(0.0, 0.3, 0.8)
    problem = Equation(exact.jacobian.float(), exact.g.float())
    v, report = problem.solve(make())
    assert v.dtype == torch.float32 and report.converged
    assert 1e-9 < exact.error(v.double()) < 1e-4
    assert report.residual <= torch.finfo(torch.float32).eps ** 0.75


@every_solver
def test_a_problem_is_solved_as_if_it_were_alone(make: Callable[[], Iterative]) -> None:
    problem = equation(0.3, 0.8, 0.6)
    together, _ = problem.solve(make())
    alone = [Equation(j[None], g[None]).solve(make())[0] for j, g in zip(problem.jacobian, problem.g)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-10)


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_to_solve_for(make: Callable[[], Iterative], dtype: torch.dtype) -> None:
    """A right-hand side of zero; one of zero in one problem; no feedback in one problem."""
    drawn = equation(0.5, 0.9, 0.7)
    problem = Equation(drawn.jacobian.to(dtype), drawn.g.to(dtype))
    nothing, report = Equation(problem.jacobian, 0 * problem.g).solve(make())
    assert not nothing.any() and report.converged and report.residual == 0 and report.iterations == 1
    problem.g[0] = 0
    problem.jacobian[1] = 0
    v, report = problem.solve(make())
    assert report.converged and problem.error(v) < (1e-10 if dtype == torch.float64 else 1e-4)
    assert not v[0].any() and torch.equal(v[1], problem.g[1])


@every_solver
@pytest.mark.parametrize("factor", [2.0**-60, -(2.0**50)])
def test_a_multiple_is_answered_by_a_multiple(make: Callable[[], Iterative], factor: float) -> None:
    problem = equation(0.5, 0.9)
    v, report = problem.solve(make())
    multiple, again = Equation(problem.jacobian, factor * problem.g).solve(make())
    assert torch.equal(multiple, factor * v) and again == report


@every_solver
def test_the_adjoint_is_that_of_the_map(make: Callable[[], Iterative]) -> None:
    """`<v, (1 - J) d> = <g, d>` for any d."""
    problem = equation(0.5, 0.8)
    v, _ = problem.solve(make())
    d = torch.randn(5, 2, 20)
    left = (v * (d - (problem.jacobian @ d.unsqueeze(-1)).squeeze(-1))).sum(-1)
    torch.testing.assert_close(left, (problem.g * d).sum(-1), rtol=1e-10, atol=1e-10)
    turned = (v * (d - (problem.jacobian.mT @ d.unsqueeze(-1)).squeeze(-1))).sum(-1)
    assert (turned - (problem.g * d).sum(-1)).abs().max() > 0.1


def test_without_a_cycle_as_many_iterations_as_there_are_edges() -> None:
    problem = equation(0.5, 0.9, size=4)
    problem.jacobian = 3 * problem.jacobian.triu(1)
    v, report = problem.solve(FixedPoint(4))
    assert report.iterations == 4 and report.converged
    torch.testing.assert_close(v, problem.solution, rtol=1e-14, atol=1e-14)
    short, report = problem.solve(FixedPoint(3))
    assert not report.converged and problem.error(short) > 1e-4


@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_an_iterate_of_the_fixed_point_iteration_is_a_partial_sum(damping: float) -> None:
    problem = equation(0.9)
    v, iterations = problem.g, 6
    for _ in range(iterations - 1):
        v = v + damping * (problem.product(v) + problem.g - v)
    torch.testing.assert_close(problem.solve(FixedPoint(iterations, damping))[0], v, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("solver", [Anderson(40, memory=8), Broyden(40, memory=40)], ids=repr)
def test_acceleration_solves_what_diverges(solver: Iterative) -> None:
    """Eigenvalues beyond one are of no concern to methods that look at the whole space."""
    problem = rotated(-3.0, 1.7, -1.2, 0.9, 0.5, 0.1)
    v, report = problem.solve(solver)
    assert report.converged and problem.error(v) < 1e-9
    _, plain = problem.solve(FixedPoint(40))
    assert not plain.converged and plain.residual >= 0.5


def test_damping_solves_what_overshoots() -> None:
    problem = rotated(-2.0, -1.5, 0.5, 0.3)
    v, report = problem.solve(FixedPoint(300, damping=0.5))
    assert report.converged and problem.error(v) < 1e-10
    assert not problem.solve(FixedPoint(300))[1].converged


@pytest.mark.parametrize("make", [Anderson, Broyden])
def test_memory_saves_iterations(make: Callable[..., Iterative]) -> None:
    problem = rotated(*torch.linspace(-0.5, 0.95, 40).tolist())
    short, some, long = (problem.solve(make(1000, memory))[1] for memory in (1, 8, 60))
    assert short.converged and some.converged and long.converged
    assert long.iterations < 0.9 * some.iterations and some.iterations < 0.9 * short.iterations


def test_the_legacy_iteration_solves_another_equation() -> None:
    problem = equation(0.5, 0.9)
    unit = torch.eye(20)
    other: Tensor = torch.linalg.solve(2 * unit - problem.jacobian.mT, problem.g)
    v, report = problem.solve(FixedPoint(120, legacy=True))
    torch.testing.assert_close(v, other, rtol=1e-12, atol=1e-12)
    assert report.iterations == len(problem.seen) == 120
    for make in SOLVERS:
        assert float((problem.solve(make())[0] - other).norm() / other.norm()) > 0.5


@pytest.mark.parametrize(
    "attempt, message",
    [
        (lambda: FixedPoint(0), r"FixedPoint\(iterations=0\): a solver takes at least one iteration"),
        (lambda: Broyden(tolerance=0), r"Broyden\(tolerance=0\): .*a finite number, above 0"),
        (lambda: Anderson(tolerance=-1.0), r"Anderson\(tolerance=-1.0\)"),
        (lambda: Anderson(memory=0), r"Anderson\(memory=0\): at least one earlier iterate"),
        (lambda: Broyden(memory=0), r"Broyden\(memory=0\): at least one rank-one correction"),
        (lambda: FixedPoint(damping=0), r"FixedPoint\(damping=0\): .*in \(0, 1\]"),
        (lambda: FixedPoint(damping=1.1), r"FixedPoint\(damping=1.1\)"),
    ],
)
def test_what_is_no_solver_is_refused(attempt: Callable[[], Iterative], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attempt()
