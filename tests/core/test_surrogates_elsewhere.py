"""Surrogates of other libraries: the slope that autograd takes through each, and the surrogate here with that slope."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright import surrogate
from spikewright.bench.peers._base import load

SLOPES: dict[str, list[tuple[str, str]]] = {
    "snntorch": [
        ("fast_sigmoid(slope=k)", "FastSigmoid(k, factor=2 / k)"),
        ("fast_sigmoid()", "FastSigmoid(25, factor=2 / 25)"),
        ("atan(alpha=k)", "ATan(k)"),
        ("atan()", "ATan()"),
        ("sigmoid(slope=k)", "Sigmoid(k)"),
        ("sigmoid()", "Sigmoid(25)"),
        ("straight_through_estimator()", "Rectangle(2**20, factor=2**20)"),
    ],
    "spikingjelly": [
        ("Sigmoid(alpha=k)", "Sigmoid(k)"),
        ("ATan(alpha=k)", "ATan(k)"),
        ("SoftSign(alpha=k)", "FastSigmoid(k)"),
        ("SuperSpike(alpha=k)", "FastSigmoid(1, factor=2 * k)"),
        ("QPseudoSpike(alpha=2.0)", "FastSigmoid(2)"),
        ("PiecewiseQuadratic(alpha=k)", "Triangle(k)"),
        ("PiecewiseExp(alpha=k)", "Exponential(1 / k)"),
        ("Erf(alpha=k)", "Erf(k)"),
        ("Rect(alpha=k)", "Rectangle(1 / k)"),
        ("PiecewiseLeakyReLU(w=w, c=0.0)", "Rectangle(2 * w)"),
        ("LeakyKReLU(leak=k, k=k)", "Rectangle(2**20, factor=k * 2**20)"),
        ("DeterministicPass()", "Rectangle(2**20, factor=2**20)"),
        ("Sigmoid()", "Sigmoid()"),
        ("ATan()", "ATan()"),
        ("SoftSign()", "FastSigmoid()"),
        ("SuperSpike()", "FastSigmoid(1, factor=2)"),
        ("PiecewiseQuadratic()", "Triangle()"),
        ("PiecewiseExp()", "Exponential(1)"),
        ("Erf()", "Erf()"),
        ("Rect()", "Rectangle()"),
        ("QPseudoSpike()", "FastSigmoid(2)"),
    ],
    "sinabs": [
        ("SingleExponential(grad_width=w, grad_scale=a)", "Exponential(w * threshold, factor=2 * a)"),
        ("SingleExponential()", "Exponential(0.5 * threshold, factor=2)"),
        ("Gaussian(mu=0.0, sigma=w, grad_scale=a)", "Erf(1 / (sqrt(2) * w), factor=a)"),
        ("Gaussian()", "Erf(sqrt(2))"),
    ],
    "norse": [
        ("'super', k", "FastSigmoid(1, factor=2)"),
        ("'triangle', k", "Triangle(1, factor=k)"),
        ("'tanh', k", "Sigmoid(2 * k, factor=2 / k)"),
        ("'heavi_erfc', k", "Erf(k, factor=2 / k)"),
    ],
}
"""What is called there, and the same here.  Their rectangles leave out the edge, and ours has it."""


def there(library: str, code: str, names: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return spikes of potential minus threshold, as the library makes them."""
    if library == "norse":
        (module,) = load("norse", "norse.torch.functional.threshold")
        return lambda x: eval(f"threshold(x, {code})", {**names, "threshold": module.threshold, "x": x})
    if library == "sinabs":
        (module,) = load("sinabs", "sinabs.activation")
        slope, threshold = eval(code, {**vars(module), **names}), names["threshold"]
        return lambda x: module.SingleSpike.apply(x + threshold, threshold, slope)
    (module,) = load(
        library, {"snntorch": "snntorch.surrogate"}.get(library, "spikingjelly.activation_based.surrogate")
    )
    return eval(code, {**vars(module), **names})


@pytest.mark.parametrize("number", [0.4, 1.0, 2.7])
@pytest.mark.parametrize(
    ("library", "theirs", "ours"),
    [(library, *line) for library, lines in SLOPES.items() for line in lines],
    ids=lambda part: part.replace(" ", ""),
)
def test_slopes_are_those_of_the_library(library: str, theirs: str, ours: str, number: float) -> None:
    names = {"k": number, "w": number, "a": 0.6, "threshold": 1.3, "sqrt": math.sqrt}
    try:
        spikes = there(library, theirs, names)
    except ImportError as error:
        pytest.skip(str(error))
    here = eval(ours, {**{name: getattr(surrogate, name) for name in surrogate.__all__}, **names})
    slopes = []
    for fire in (here, spikes):
        x = torch.linspace(-2.5, 2.5, 334, dtype=torch.float64, requires_grad=True)  # neither 0 nor an edge
        fired = fire(x)
        assert torch.equal(fired.detach().double(), (x > 0).double())
        (slope,) = torch.autograd.grad(fired, x, torch.ones_like(fired))
        slopes.append(slope)
    assert slopes[0].max() > 0.01
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-6)
