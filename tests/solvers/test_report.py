"""A report says what happened."""

import math
from collections.abc import Callable

import pytest
import torch

from spikewright.solvers import Anderson, Broyden, FixedPoint, Iterative, Report
from tests.solvers.equations import NAMES, SOLVERS, equation, rotated

every_solver = pytest.mark.parametrize("make", SOLVERS, ids=NAMES)
FEW: list[Callable[[], Iterative]] = [lambda: FixedPoint(6), lambda: Anderson(6), lambda: Broyden(6)]
few_iterations = pytest.mark.parametrize("make", FEW, ids=[repr(make()) for make in FEW])


@every_solver
def test_an_iteration_is_a_product_and_the_residual_can_be_computed_again(make: Callable[[], Iterative]) -> None:
    problem = equation(0.0, 0.5, 0.9)
    v, report = problem.solve(make())
    assert report.iterations == len(problem.seen) < make().iterations
    assert report.residual == pytest.approx(problem.residual(v), rel=1e-2, abs=1e-15)
    assert report.residual <= torch.finfo(torch.float64).eps ** 0.75


@few_iterations
def test_so_does_one_that_ran_out_of_iterations(make: Callable[[], Iterative]) -> None:
    problem = equation(0.9, 0.95)
    v, report = problem.solve(make())
    assert report.iterations == len(problem.seen) == 6 and not report.converged
    assert report.residual == pytest.approx(problem.residual(v), rel=1e-10) and report.residual > 1e-6


@every_solver
@pytest.mark.parametrize("tolerance", [1e-1, 1e-4])
def test_the_first_iterate_within_the_tolerance_is_returned(make: Callable[[], Iterative], tolerance: float) -> None:
    solver, problem = make(), equation(0.9, 0.8, size=60)
    solver.tolerance = tolerance
    v, report = problem.solve(solver)
    *before, last = list(problem.seen)
    assert report.converged and torch.equal(v, last) and problem.residual(v) <= tolerance
    assert before and all(problem.residual(iterate) > tolerance for iterate in before)


@pytest.mark.parametrize("make", [FixedPoint, Anderson, Broyden])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_iterate_is_returned(make: Callable[..., Iterative], seed: int) -> None:
    problem = rotated(-3.0, 2.0, 1.7, -1.2, 1.3, 0.9, 2.5, 1.1, seed=seed)
    v, report = problem.solve(make(3 + seed))
    iterates = list(problem.seen)
    residuals = [problem.residual(iterate) for iterate in iterates]
    assert torch.equal(v, iterates[residuals.index(min(residuals))])
    assert report.residual == pytest.approx(min(residuals), rel=1e-12) and not report.converged
    if make is FixedPoint:
        assert residuals.index(min(residuals)) < len(residuals) - 1


def reason(report: Report) -> str:
    assert not report.converged
    return report.reason


def test_the_reasons_tell_divergence_from_impatience() -> None:
    slow = reason(rotated(0.99, 0.98, 0.97, 0.5).solve(FixedPoint(20))[1])
    assert slow.startswith("After 20 iterations the adjoint equation is off by ") and "contracts slowly" in slow
    assert slow.endswith("(spikewright.layers.restrict_spectral), or allow more iterations.")
    diverging = reason(rotated(1.5, 0.9, 0.5, 0.1).solve(FixedPoint(20))[1])
    assert "the feedback does not contract. Restrict the norm of its weights" in diverging
    assert "more iterations" not in diverging and "slowly" not in diverging


@few_iterations
def test_impatience_is_not_called_divergence(make: Callable[[], Iterative]) -> None:
    for seed in range(10):
        report = rotated(0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, -0.9, seed=seed).solve(make())[1]
        assert "contracts slowly" in reason(report), seed


def test_a_hopeless_iteration_is_given_up() -> None:
    problem = rotated(-30.0, 20.0, 10.0)
    report = problem.solve(FixedPoint(1000))[1]
    assert report.iterations == len(problem.seen) < 10 and "does not contract" in reason(report)


@pytest.mark.parametrize("eigenvalue", [1.0, math.nan])
@pytest.mark.parametrize("make", [FixedPoint, Anderson, Broyden])
def test_what_has_no_solution_does_not_converge(make: Callable[..., Iterative], eigenvalue: float) -> None:
    v, report = rotated(eigenvalue, 0.5, 0.3).solve(make(100))
    assert reason(report) and torch.isfinite(v).all() and report.residual > 0.01
