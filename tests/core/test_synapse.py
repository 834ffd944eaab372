"""The synapse seam: a factor of its own, without a second forward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spikewright.synapses.interception import Interception
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import LAYERS, SynapticInput, transmit

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch, of its own copy of the input
STEPS, BATCH = 2, 2
Call = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Setting:
    """A call of one of torch's linear operations, with tensors that fit it."""

    call: Call
    x: Tensor
    weight: Tensor
    bias: Tensor

    def parsed(self, x: Tensor) -> tuple[Operation, Tensor]:
        """What the seam makes of the call at `x`: the operation and its input, padded where "same" is uneven."""
        seen: list[tuple[Operation, Tensor]] = []

        def handle(operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            seen.append((operation, x))
            return operation(x, weight, bias)

        with Interception(LAYERS, handle):
            self.call(x, self.weight, self.bias)
        return seen[0]


def tensors(x: tuple[int, ...], weight: tuple[int, ...], bias: int) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    shapes = (STEPS * BATCH, *x), weight, (bias,)
    x_, weight_, bias_ = (torch.randn(s, generator=source, dtype=torch.float64).requires_grad_() for s in shapes)
    return x_, weight_, bias_


@st.composite
def convolutions(draw: st.DrawFn) -> Setting:
    """Any stride, padding, dilation and grouping, forward and transposed, in one to three dimensions."""
    dimensions, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    transposed = draw(st.booleans())

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    kernel, stride, dilation, padding = each(1, 3), each(1, 3), each(1, 2), each(0, 1)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = tuple(draw(st.integers(0, s - 1)) for s in stride)
    elif draw(st.booleans()):
        options |= {"padding": draw(st.sampled_from(["same", "valid"])), "stride": 1}
    name = f"conv_transpose{dimensions}d" if transposed else f"conv{dimensions}d"
    function, channels = getattr(F, name), (2 * groups, 3) if transposed else (3 * groups, 2)
    arguments = tensors((2 * groups, *each(5, 6)), (*channels, *kernel), 3 * groups)
    return Setting(lambda x, w, b: function(x, w, b, **options), *arguments)


LINEAR = [
    Setting(F.linear, *tensors((5,), (3, 5), 3)),
    Setting(F.linear, *tensors((4, 5), (3, 5), 3)),
    Setting(F.linear, *tensors((2, 4, 5), (3, 5), 3)),
]


def unfolded(x: Tensor) -> Tensor:
    return x.unflatten(0, (STEPS, BATCH))


def through(setting: Setting, factor: Tensor | None = None, **arrival: Tensor) -> Tensor:
    """The current of the seam."""
    operation, x = setting.parsed(setting.x)
    if factor is not None:
        arrival["presynaptic"] = unfolded(setting.parsed(factor)[1].detach())
    return transmit(operation, SynapticInput(unfolded(x), **arrival), setting.weight, setting.bias).flatten(0, 1)


def grads(current: Tensor, setting: Setting) -> list[Tensor]:
    upstream = torch.randn(current.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return list(torch.autograd.grad(current, [setting.x, setting.weight, setting.bias], upstream))


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def assert_operation(setting: Setting) -> None:
    """Factor = value is the plain operation; another factor is the plain operation at that factor, for the weight."""
    plain = setting.call(setting.x, setting.weight, setting.bias)
    expected = grads(plain, setting)
    same = through(setting, factor=setting.x.detach())
    torch.testing.assert_close(same, plain, rtol=1e-12, atol=1e-12)
    assert_close(grads(same, setting), expected)
    factor = torch.randn_like(setting.x)
    other = through(setting, factor=factor)
    assert torch.equal(other, same)
    at_factor = Setting(setting.call, factor.requires_grad_(), setting.weight, setting.bias)
    _, for_weight, _ = grads(setting.call(factor, setting.weight, setting.bias), at_factor)
    assert_close(grads(other, setting), [expected[0], for_weight, expected[2]])


@given(setting=convolutions())
def test_convolutions(setting: Setting) -> None:
    assert_operation(setting)


@pytest.mark.parametrize("setting", LINEAR, ids=lambda s: str(list(s.x.shape)))
def test_linear_layers(setting: Setting) -> None:
    assert_operation(setting)


@given(setting=convolutions())
def test_a_bias_has_a_factor_per_step(setting: Setting) -> None:
    current = through(setting, presynaptic_bias=torch.tensor([1.0, -2.5], dtype=torch.float64))
    upstream = torch.randn_like(current)
    (found,) = torch.autograd.grad(current, setting.bias, upstream)
    first, second = (step.transpose(0, 1).flatten(1).sum(1) for step in upstream.split(BATCH))
    expected = first - 2.5 * second
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(setting=convolutions())
def test_other_weights_may_carry_the_error_back(setting: Setting) -> None:
    back = torch.randn_like(setting.weight)
    current = through(setting, back=back)
    feedback = Setting(setting.call, setting.x, back.requires_grad_(), setting.bias)
    expected = grads(setting.call(setting.x, setting.weight, setting.bias), setting)
    expected[0] = grads(setting.call(setting.x, back, setting.bias), feedback)[0]
    assert_close(grads(current, setting), expected)


@pytest.mark.parametrize("setting", LINEAR, ids=lambda s: str(list(s.x.shape)))
def test_both_at_a_linear_layer(setting: Setting) -> None:
    back, factor = torch.randn_like(setting.weight), torch.tensor([0.5, 3.0], dtype=torch.float64)
    current = through(setting, back=back, presynaptic_bias=factor)
    upstream = torch.randn_like(current)
    for_x, for_bias = torch.autograd.grad(current, [setting.x, setting.bias], upstream)
    per_step = unfolded(upstream).flatten(1, -2).sum(1)
    assert_close([for_x, for_bias], [upstream @ back, factor @ per_step])


def test_a_frozen_weight_or_input_costs_no_gradient() -> None:
    setting = LINEAR[0]
    operation, _ = setting.parsed(setting.x)
    x, weight = setting.x.detach().requires_grad_(), setting.weight.detach()
    current = transmit(operation, SynapticInput(x.view(2, 2, 5), presynaptic=torch.zeros(2, 2, 5)), weight, None)
    assert_close([*torch.autograd.grad(current.sum(), x)], [weight.sum(0).expand(4, 5)])
    frozen = SynapticInput(x.detach().view(2, 2, 5), presynaptic=torch.ones(2, 2, 5))
    weight.requires_grad_()
    current = transmit(operation, frozen, weight, None)
    assert_close([*torch.autograd.grad(current.sum(), weight)], [torch.full((3, 5), 4.0)])
