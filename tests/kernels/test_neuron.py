"""The general scan: the fused one is held to the step-by-step one, for every kind of neuron."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels.equations import CONSTANTS, Emits, Equations
from spikewright.kernels.neuron import neuron_scan
from spikewright.kernels.neuron_naive import neuron_naive
from spikewright.surrogate import ATan, Rectangle, Sigmoid, Surrogate, Triangle
from tests.kernels.support import needs_kernels

PLAIN = Equations(0.8, 1.0, 1.0, "subtract", False, Sigmoid(4.0))
CURRENT = {"has_current": True, "current_leak": 0.6, "current_gain": 0.7}
ADAPTIVE = {"adaptive": True, "adaptation_leak": 0.9, "adaptation_jump": 0.3}
KINDS = [
    {**current, **adaptive, "max_spikes": most, "reset": reset}
    for current, adaptive, most, reset in itertools.product(
        ({}, CURRENT), ({}, ADAPTIVE), (1, math.inf, 2), ("subtract", "zero")
    )
]
SWITCHES: list[dict[str, Any]] = [
    {},
    {"detach_reset": True},
    {"strict": True},
    {"lower_bound": -0.25},
    {"gain": 0.5, "reset_amount": 1.5},
    {"moving_reset": True},
    {"surrogate": ATan(3.0)},
    {"surrogate": Triangle()},
    {"surrogate": Rectangle(0.7)},
]

Outcome = tuple[list[Any], list[Any]]


class Own(Surrogate):
    def slope(self, x: Tensor) -> Tensor:
        return 1 / (1 + 5 * x.abs()) ** 2


def quarters(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return numbers on a grid of quarters, so that thresholds are met exactly, and passed several times over."""
    return torch.randint(-4, 12, shape, generator=torch.Generator().manual_seed(seed)).to(dtype) / 4


def outcome(
    scan: Any, x: Tensor, equations: Equations, through_time: bool, emits: Emits
) -> tuple[list[Any], list[Any]]:
    """Return what a scan from a state returns, and the gradients of a weighting of all of it."""
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    carried = [torch.randn_like(x[0]).requires_grad_() for _ in range(3)]
    carried[2] = (carried[2].detach().abs() / 4).requires_grad_()
    channels = {
        name: torch.full((x.shape[-1],), getattr(equations, name), dtype=x.dtype).requires_grad_()
        for name in CONSTANTS
        if name != "lower_bound" and math.isfinite(getattr(equations, name))
    }
    outputs = scan(x, tuple(carried), replace(equations, **channels), through_time, emits)
    weighted = [(torch.randn_like(y) * y).sum() for y in outputs if y is not None]
    weighted = [value for value in weighted if value.requires_grad]
    leaves = [x, *carried, *channels.values()]
    return list(outputs), list(torch.autograd.grad(torch.stack(weighted).sum(), leaves, allow_unused=True))


def assert_equal(found: list[Any], expected: list[Any], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        zero = torch.zeros(())
        one, other = (zero if value is None else value.detach() for value in (one, other))
        torch.testing.assert_close(
            *torch.broadcast_tensors(one.double(), other.double()), rtol=tolerance, atol=tolerance
        )


@needs_kernels
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equals_the_program(kind: dict[str, Any], switches: dict[str, Any]) -> None:
    equations = replace(PLAIN, **kind, **switches)
    if equations.counts and (equations.reset == "zero" or equations.strict):
        equations = replace(equations, detach_reset=True, strict=False)
    for through_time, emits in itertools.product((True, False), ("nothing", "before reset", "after reset")):
        results = [
            outcome(scan, quarters(40, 2, 5), equations, through_time, emits) for scan in (neuron_scan, neuron_naive)
        ]
        (outputs, grads), (expected, expected_grads) = results
        assert torch.equal(outputs[0], expected[0])
        assert outputs[0].max() > 0 and outputs[0].min() == 0
        assert_equal(outputs, expected, 1e-12)
        assert_equal(grads, expected_grads, 1e-10)
