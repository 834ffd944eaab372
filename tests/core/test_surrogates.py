"""Surrogate slopes: what all of them must be, and the peak each one documents."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikewright.surrogate import ATan, Rectangle, Sigmoid, Surrogate, Triangle

PEAKS: list[tuple[Surrogate, float]] = [
    (Sigmoid(), 1.0),
    (Sigmoid(8.0), 2.0),
    (ATan(), 1.0),
    (ATan(5.0), 2.5),
    (Triangle(), 1.0),
    (Rectangle(), 1.0),
    (Rectangle(0.5), 2.0),
]
every_surrogate = pytest.mark.parametrize("surrogate, peak", PEAKS, ids=str)


@every_surrogate
def test_has_unit_area(surrogate: Surrogate, peak: float) -> None:
    """The substitution x = tan(angle) brings the whole line to a finite interval."""
    angle = (torch.arange(200_000) + 0.5) / 200_000 * math.pi - math.pi / 2
    x = angle.tan()
    area = (surrogate.slope(x) * (1 + x.square())).mean() * math.pi
    assert float(area) == pytest.approx(1.0, abs=1e-4)


@every_surrogate
def test_peaks_at_zero_with_the_documented_height(surrogate: Surrogate, peak: float) -> None:
    x = torch.linspace(-3, 3, 601)
    assert float(surrogate.slope(torch.zeros(1))) == pytest.approx(peak, rel=1e-12)
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
    slope = surrogate.slope(torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4], dtype=dtype))
    assert slope.dtype == dtype and slope.isfinite().all() and (slope >= 0).all()
    assert slope[[0, 4]].max() < 1e-3


@every_surrogate
def test_is_the_gradient_of_a_spike(surrogate: Surrogate, peak: float) -> None:
    x, upstream = torch.linspace(-2, 2, 9).requires_grad_(), torch.arange(9.0)
    spikes = surrogate(x)
    assert spikes.tolist() == [0.0] * 4 + [1.0] * 5
    (grad,) = torch.autograd.grad(spikes, x, upstream)
    torch.testing.assert_close(grad, upstream * surrogate.slope(x.detach()), rtol=0, atol=0)


def test_the_edge_of_a_rectangle_belongs_to_it() -> None:
    assert Rectangle(1.0).slope(torch.tensor([-0.5, 0.5, 0.500001])).tolist() == [1.0, 1.0, 0.0]


def test_a_surrogate_of_the_users_own_needs_only_a_slope() -> None:
    class Flat(Surrogate):
        def slope(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 0.25)

    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    Flat()(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.25, 0.25]
