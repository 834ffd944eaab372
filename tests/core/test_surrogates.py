"""Surrogate slopes: what all of them must be, the function each is the slope of, and the peak it documents."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikewright.surrogate import (
    BUILT_IN,
    ATan,
    Erf,
    Exponential,
    FastSigmoid,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
)

PEAKS: list[tuple[Surrogate, float]] = [
    (Sigmoid(), 1.0),
    (Sigmoid(8.0), 2.0),
    (Sigmoid(2.0, factor=2.0), 1.0),
    (ATan(), 1.0),
    (ATan(5.0), 2.5),
    (ATan(5.0, factor=0.4), 1.0),
    (Triangle(), 1.0),
    (Triangle(3.0), 3.0),
    (Triangle(alpha=0.5, factor=0.3), 0.15),
    (Rectangle(), 1.0),
    (Rectangle(0.5), 2.0),
    (Rectangle(0.5, factor=3.0), 6.0),
    (FastSigmoid(), 1.0),
    (FastSigmoid(5.0), 2.5),
    (FastSigmoid(25.0, factor=2 / 25), 1.0),
    (Exponential(), 1.0),
    (Exponential(0.1), 5.0),
    (Exponential(0.25, factor=0.7), 1.4),
    (Erf(), 2 / math.sqrt(math.pi)),
    (Erf(1.0), 1 / math.sqrt(math.pi)),
    (Erf(math.sqrt(math.pi), factor=0.3), 0.3),
]
every_surrogate = pytest.mark.parametrize("surrogate, peak", PEAKS, ids=str)


def laplace(x: Tensor, width: float) -> Tensor:
    return torch.distributions.Laplace(0.0, width).cdf(x)


def quadratic(x: Tensor, alpha: float) -> Tensor:
    z = (alpha * x).clamp(-1, 1)
    return 0.5 + z - z * z.abs() / 2


STEPS: dict[type[Surrogate], Callable[[Tensor, float], Tensor]] = {
    Sigmoid: lambda x, alpha: 1 / (1 + (-alpha * x).exp()),
    ATan: lambda x, alpha: (math.pi / 2 * alpha * x).atan() / math.pi,
    Triangle: quadratic,
    Rectangle: lambda x, width: (x / width).clamp(-0.5, 0.5),
    FastSigmoid: lambda x, alpha: alpha * x / (1 + alpha * x.abs()) / 2,
    Exponential: laplace,
    Erf: lambda x, alpha: torch.special.ndtr(alpha * x * math.sqrt(2)),
}
"""The smooth steps from 0 to 1, up to a constant, that the slopes are the derivatives of."""


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize("number", [0.3, 1.0, 2.7])
@pytest.mark.parametrize("factor", [1.0, 0.4])
def test_is_the_derivative_of_its_step(kind: Any, number: float, factor: float) -> None:
    """By differences over 2e-5; no kink of a slope is that near to a number."""
    x, h = torch.linspace(-4, 4, 334, dtype=torch.float64), 1e-5
    expected = factor * (STEPS[kind](x + h, number) - STEPS[kind](x - h, number)) / (2 * h)
    torch.testing.assert_close(kind(number, factor).slope(x), expected, rtol=1e-7, atol=1e-8)


def test_every_surrogate_is_in_the_tables_here() -> None:
    named = {c for c in Surrogate.__subclasses__()[0].__subclasses__() if c.__module__ == Surrogate.__module__}
    assert set(BUILT_IN) == named == STEPS.keys() == {type(surrogate) for surrogate, _ in PEAKS}


@every_surrogate
def test_the_area_is_the_factor(surrogate: Any, peak: float) -> None:
    """The substitution x = tan(angle) brings the whole line to a finite interval."""
    angle = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * math.pi - math.pi / 2
    x = angle.tan()
    area = (surrogate.slope(x) * (1 + x.square())).mean() * math.pi
    assert float(area) == pytest.approx(surrogate.factor, rel=1e-4)


@every_surrogate
def test_peaks_at_zero_with_the_documented_height(surrogate: Surrogate, peak: float) -> None:
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    assert float(surrogate.slope(torch.zeros(1, dtype=x.dtype))) == pytest.approx(peak, rel=1e-12)
    assert float(surrogate.slope(x).max()) <= peak * (1 + 1e-12)
    outwards = surrogate.slope(x[x >= 0]).diff()
    assert (outwards <= 1e-15).all()


@every_surrogate
@given(x=st.floats(-1e6, 1e6))
def test_is_even(surrogate: Surrogate, peak: float, x: float) -> None:
    left, right = surrogate.slope(torch.tensor([-x, x], dtype=torch.float64)).tolist()
    assert left >= 0 and abs(left - right) <= 1e-12 * peak


@every_surrogate
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_is_finite_far_away(surrogate: Surrogate, peak: float, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4, largest, -largest, math.inf, -math.inf], dtype=dtype)
    slope = surrogate.slope(x)
    assert slope.dtype == dtype and slope.isfinite().all() and (slope >= 0).all()
    assert slope[[0, *range(4, 9)]].max() < 1e-3


@every_surrogate
def test_is_the_gradient_of_a_spike(surrogate: Surrogate, peak: float) -> None:
    x, upstream = torch.linspace(-2, 2, 9).requires_grad_(), torch.arange(9.0)
    spikes = surrogate(x)
    assert spikes.tolist() == [0.0] * 4 + [1.0] * 5
    (grad,) = torch.autograd.grad(spikes, x, upstream)
    torch.testing.assert_close(grad, upstream * surrogate.slope(x.detach()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_factor_of_1_is_not_shown(kind: Any) -> None:
    assert str(kind(2.0)) in (f"{kind.__name__}(alpha=2.0)", f"{kind.__name__}(width=2.0)")
    assert eval(str(kind(2.0, 0.5)), {kind.__name__: kind}) == kind(2.0, 0.5) != kind(2.0)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_pickle_keeps_its_numbers_and_one_without_a_factor_has_1(kind: Any) -> None:
    assert pickle.loads(pickle.dumps(kind(2.0, 0.5))) == kind(2.0, 0.5)
    old = object.__new__(kind)  # as pickled by a version without factors, and by one without a steepness of Triangle
    assert old == kind() and torch.equal(old.slope(torch.linspace(-1, 1, 9)), kind().slope(torch.linspace(-1, 1, 9)))


def test_the_edge_of_a_rectangle_belongs_to_it() -> None:
    assert Rectangle(1.0).slope(torch.tensor([-0.5, 0.5, 0.500001])).tolist() == [1.0, 1.0, 0.0]


def test_a_surrogate_of_the_users_own_needs_only_a_slope() -> None:
    class Flat(Surrogate):
        def slope(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 0.25)

    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    Flat()(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.25, 0.25]
