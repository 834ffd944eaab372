"""What an output of a linear operation sees: a row of the input, or a patch in the order of the weight."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.rules.continual.subspaces import Hebbian
from spikewright.synapses.interception import Interception
from spikewright.synapses.operations import Convolution, Linear, Operation
from spikewright.synapses.synapse import LAYERS
from tests.oracles.hlop import patches, weight_gradient
from tests.subspaces.support import arrived, basis, drawn, holding

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch, of its own copy of the input


def parsed(call: Any) -> tuple[Operation, Tensor]:
    """What the seam makes of a call of a linear operation, and its input there."""
    seen: list[tuple[Operation, Tensor]] = []

    def handle(operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append((operation, x))
        return operation(x, weight, bias)

    with Interception(LAYERS, handle):
        call()
    return seen[0]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """A function of torch, the shapes of input and weight, and any stride, padding, dilation and grouping."""
    dimensions, groups = draw(st.integers(1, 3)), draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(dimensions))

    kernel, options = each(1, 3), {"stride": each(1, 3), "padding": each(0, 2), "dilation": each(1, 2)}
    if draw(st.booleans()):
        options |= {"padding": draw(st.sampled_from(["same", "valid"])), "stride": 1}
    shapes = (2, 2 * groups, *each(5, 6)), (3 * groups, 2, *kernel)
    return getattr(F, f"conv{dimensions}d"), *shapes, options | {"groups": groups}


@given(setting=convolutions())
def test_patches_give_the_weight_gradient_of_torch(setting: Any) -> None:
    function, size, kernel, options = setting
    x, weight = drawn(*size), drawn(*kernel, seed=1).requires_grad_()
    y = function(x, weight, **options)
    grad = drawn(*y.shape, seed=2)
    (expected,) = torch.autograd.grad(y, weight, grad)
    operation, x = parsed(lambda: function(x, weight, **options))
    assert_close(operation.at_patches(grad, operation.patches(x, weight), weight), expected)


@given(setting=convolutions())
def test_patches_times_weights_are_the_output(setting: Any) -> None:
    function, size, kernel, options = setting
    x, weight = drawn(*size), drawn(*kernel, seed=1)
    operation, padded = parsed(lambda: function(x, weight, **options))
    seen = operation.patches(padded, weight).unflatten(0, (options["groups"], len(x), -1))
    filters = weight.flatten(1).unflatten(0, (options["groups"], -1))
    current = torch.einsum("gbpi,goi->bgop", seen, filters).flatten(1, 2)
    assert_close(current, function(x, weight, **options).flatten(2))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("side", "stride", "padding", "dilation"),
    [
        ((3,), (1,), (0,), (1,)),
        ((2,), (3,), (2,), (2,)),
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((3, 2), (2, 1), (1, 2), (1, 2)),
        ((2, 1, 3), (1, 2, 2), (1, 0, 1), (2, 1, 1)),
    ],
)
def test_patches_are_those_of_explicit_loops(side: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    dimensions = len(side)
    x, weight = drawn(2, 2 * groups, *[6, 5, 5][:dimensions]), drawn(2 * groups, 2, *side, seed=1)
    function = getattr(F, f"conv{dimensions}d")
    operation = Convolution(function, dimensions, False, stride, padding, (0,) * dimensions, dilation, groups)
    expected = patches(x, side, stride, padding, dilation, groups)
    assert torch.equal(operation.patches(x, weight), expected.flatten(0, 2))
    old = 0.9 * basis(3, expected.shape[-1])
    subspace = holding(old, old[:0])
    delta = drawn(*operation(x, weight, None).shape, seed=2)
    found = operation.at_patches(delta, subspace.project(operation.patches(x, weight)), weight)
    assert_close(found.flatten(1), weight_gradient(delta.flatten(2), expected, old))


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (4, 2, 3, 5)], ids=str)
def test_rows_of_a_linear_map_are_its_inputs(shape: tuple[int, ...]) -> None:
    x, weight = drawn(*shape), drawn(3, 5, seed=1).requires_grad_()
    y = F.linear(x, weight)
    grad = drawn(*y.shape, seed=2)
    rows = Linear().patches(x, weight)
    assert torch.equal(rows, x.reshape(-1, 5))
    assert_close(Linear().at_patches(grad, rows, weight), torch.autograd.grad(y, weight, grad)[0])


def test_a_convolution_of_one_pixel_is_a_linear_map_of_every_pixel() -> None:
    x, weight = drawn(2, 3, 4, 4), drawn(5, 3, seed=1)
    operation = Convolution(F.conv2d, 2, False, (1, 1), (0, 0), (0, 0), (1, 1), 1)
    rows = operation.patches(x, weight[:, :, None, None])
    assert torch.equal(rows, Linear().patches(x.movedim(1, -1), weight))
    learned = []
    for seen in (rows, x.permute(0, 2, 3, 1).reshape(-1, 3)):
        subspace = holding(drawn(0, 3), basis(2, 3))
        Hebbian(rate=0.1)(subspace, arrived(seen))
        learned.append(subspace.new)
    assert torch.equal(*learned)


def test_a_convolution_learns_as_a_linear_map_of_its_patches() -> None:
    x, weight = drawn(2, 4, 6, 5), drawn(4, 2, 3, 2, seed=1)
    operation = Convolution(F.conv2d, 2, False, (2, 1), (1, 0), (0, 0), (1, 2), 2)
    learned = []
    for seen in (operation.patches(x, weight), patches(x, (3, 2), (2, 1), (1, 0), (1, 2), 2).flatten(0, 2)):
        subspace = holding(drawn(0, 12), basis(2, 12))
        Hebbian(rate=0.1)(subspace, arrived(seen))
        learned.append(subspace.new)
    assert torch.equal(*learned)


def test_a_transposed_convolution_has_none() -> None:
    operation = Convolution(F.conv_transpose2d, 2, True, (1, 1), (0, 0), (0, 0), (1, 1), 1)
    with pytest.raises(IncompatibleRule, match="a transposed convolution has none"):
        operation.patches(drawn(1, 2, 4, 4), drawn(2, 3, 3, 3))
