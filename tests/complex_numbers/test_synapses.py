"""The two halves of a backward pass of a complex layer, each beside autograd's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.errors import ExtensionError
from spikewright.synapses.interception import Interception
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import LAYERS, SynapticInput, check_arrival, transmit

STEPS, BATCH = 3, 2
Call = Callable[[Tensor, Tensor, Tensor], Tensor]
CALLS: dict[str, tuple[Call, tuple[int, ...], tuple[int, ...]]] = {
    "linear": (F.linear, (5,), (4, 5)),
    "linear of maps": (F.linear, (2, 5), (4, 5)),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), (2, 6), (4, 2, 3)),
    "conv1d in groups": (lambda x, w, b: F.conv1d(x, w, b, groups=2), (4, 6), (4, 2, 3)),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding="same"), (2, 4, 4), (4, 2, 3, 3)),
    "conv3d": (lambda x, w, b: F.conv3d(x, w, b, dilation=2), (2, 4, 4, 4), (4, 2, 2, 2, 2)),
    "transposed": (lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), (3, 3, 3), (3, 4, 2, 2)),
}


def parsed(call: Call, x: Tensor, weight: Tensor) -> Operation:
    seen: list[Operation] = []

    def handle(operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(operation)
        return operation(x, weight, bias)

    with Interception(LAYERS, handle):
        call(x, weight, torch.zeros(4, dtype=x.dtype))
    return seen[0]


class Setting:
    """A call, the same call taken apart, and numbers that fit it."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.call, inputs, shape = CALLS[name]
        self._dtype = dtype
        self.x, self.factor = self.draw(STEPS, BATCH, *inputs), self.draw(STEPS, BATCH, *inputs)
        self.weight, self.back, self.bias = self.draw(*shape), self.draw(*shape), self.draw(4)
        self.operation = parsed(self.call, self.x.detach().flatten(0, 1), self.weight.detach())
        self.delta = torch.randn_like(self.truth(self.x, self.weight, self.bias)).detach()

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=self._dtype).requires_grad_()

    def truth(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return self.call(x.flatten(0, 1), weight, bias).unflatten(0, (STEPS, BATCH))

    def gradient(self, at: Tensor, x: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return the gradient of the plain call."""
        delta = self.delta if scale is None else self.delta * scale.view(-1, *[1] * (self.delta.dim() - 1))
        return torch.autograd.grad(self.truth(x, weight, self.bias), at, delta)[0]

    def check(self, arrival: SynapticInput, *expected: Tensor) -> None:
        """Compare the gradients at the input, the weight and the bias."""
        current = transmit(self.operation, arrival, self.weight, self.bias)
        found = torch.autograd.grad(current, (self.x, self.weight, self.bias), self.delta)
        torch.testing.assert_close(found, expected)


@pytest.fixture(params=[(name, dtype) for name in CALLS for dtype in (torch.complex128, torch.complex64)], ids=str)
def setting(request: Any) -> Setting:
    return Setting(*request.param)


def test_weights_learn_from_another_factor_and_errors_go_back_by_other_weights(setting: Setting) -> None:
    s = setting
    arrival = SynapticInput(s.x, presynaptic=s.factor.detach(), back=s.back.detach())
    s.check(
        arrival,
        s.gradient(s.x, s.x, s.back),
        s.gradient(s.weight, s.factor, s.weight),
        s.gradient(s.bias, s.x, s.weight),
    )


def test_biases_learn_from_a_factor_of_every_step(setting: Setting) -> None:
    s, by_step = setting, torch.randn(STEPS, dtype=setting.x.dtype)
    found = s.gradient(s.bias, s.x, s.weight, by_step.conj())
    given = s.gradient(s.x, s.x, s.weight), s.gradient(s.weight, s.x, s.weight)
    s.check(SynapticInput(s.x, presynaptic_bias=by_step), *given, found)
    one = by_step[:1]
    found = s.gradient(s.bias, s.x, s.weight, one.conj())
    s.check(SynapticInput(s.x, presynaptic_bias=one), *given, found)


def test_rows_that_are_projected_are_what_the_gradient_is_taken_at(setting: Setting) -> None:
    s = setting
    if getattr(s.operation, "transposed", False):
        pytest.skip("has no patches")
    turn = torch.tensor(2 - 1j, dtype=s.x.dtype)
    given = s.gradient(s.x, s.x, s.weight), s.gradient(s.weight, turn * s.x, s.weight)
    s.check(SynapticInput(s.x, project=lambda rows: turn * rows), *given, s.gradient(s.bias, s.x, s.weight))


@pytest.mark.parametrize("part", ["presynaptic", "presynaptic_bias", "back"])
def test_complex_factors_of_real_weights_are_refused(part: str) -> None:
    x, weight = torch.randn(STEPS, BATCH, 5), torch.randn(4, 5)
    factors = {"presynaptic": x, "presynaptic_bias": torch.ones(STEPS), "back": weight}
    arrival = SynapticInput(x, **{part: 1j * factors[part]})
    with pytest.raises(ExtensionError, match=f"{part}.* of real numbers|weights in {part} of real numbers"):
        check_arrival(None, (arrival, {}), parsed(F.linear, x[0], weight), x, weight)
