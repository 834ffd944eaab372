"""Currents at the edge: ties at the threshold, infinities, NaN, zeros of either sign, tiny numbers, half precision."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_naive, lif_scan
from tests.kernels.support import assert_identical, assert_twins, at_both, draw, needs_kernels, run

pytestmark = needs_kernels

every_reset = pytest.mark.parametrize("reset", ["subtract", "zero"])
every_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@every_precision
@every_reset
@pytest.mark.parametrize("threshold", [1.0, 0.1, 3.0])
def test_a_tie_fires(reset: str, threshold: float, dtype: torch.dtype) -> None:
    """The threshold itself, its two neighbours, and parts that add up to it."""
    at = torch.tensor(threshold, dtype=dtype)
    near = [at, at.nextafter(torch.zeros_like(at)), at.nextafter(2 * at)]
    first = assert_twins(torch.stack(near).view(1, 1, -1), threshold=threshold, reset=reset)
    assert first.spikes.flatten().tolist() == [1, 0, 1]
    choices = torch.stack([*near, at / 2, at / 4, -at / 2, 0 * at])
    x = choices[torch.randint(len(choices), (6, 2, 1025), generator=torch.Generator().manual_seed(0))]
    for leak in (1.0, 0.5):
        found = assert_twins(x, threshold=threshold, reset=reset, leak=leak, case=leak)
        assert 0.2 < found.spikes.mean() < 0.8


@every_precision
@every_reset
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_stays_with_its_neuron(reset: str, value: float, dtype: torch.dtype) -> None:
    """Outputs are those of the naive scan; the gradients of all other neurons too."""
    x, where = draw(5, 2, 33, dtype=dtype), torch.zeros(2, 33, dtype=torch.bool)
    where[0, 7] = where[1, 32] = True
    x[2, where] = value
    clean = x.masked_fill(where, 0.5)
    for detached in (True, False):
        expected, found = (run(s, x, reset=reset, detach_reset=detached, leak=0.9) for s in (lif_naive, lif_scan))
        assert_identical(found.spikes, expected.spikes)
        assert_identical(found.membrane, expected.membrane)
        without = run(lif_scan, clean, reset=reset, detach_reset=detached, leak=0.9)
        assert_identical(found.grads["current"][:, ~where], without.grads["current"][:, ~where])


@every_precision
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_the_gradient_of_an_infinite_potential(value: float, dtype: torch.dtype) -> None:
    """The slope is 0 there, and a reset by subtraction passes the gradient on."""
    x = torch.tensor([0.4, value, 0.4], dtype=dtype).view(3, 1, 1)
    assert_twins(x, leak=0.5, reset="subtract")


@every_precision
@every_reset
def test_zeros_keep_their_sign(reset: str, dtype: torch.dtype) -> None:
    zeros = torch.tensor([0.0, -0.0], dtype=dtype)
    x, before = zeros.view(1, 1, 2, 1).expand(3, 1, 2, 2), zeros.expand(1, 2, 2)
    for leak in (1.0, 0.5, 0.0):
        assert_twins(x, before, reset=reset, leak=leak, case=leak)


def test_rest_is_a_positive_zero() -> None:
    """The naive scan starts at the current itself, so its zero may be negative; nothing else differs."""
    x = torch.tensor([0.0, -0.0]).view(1, 1, 2)
    expected, found = (run(scan, x) for scan in (lif_naive, lif_scan))
    assert torch.equal(found.membrane, expected.membrane) and not found.membrane.signbit().any()
    assert torch.equal(found.grads["current"], expected.grads["current"])


@every_precision
@every_reset
def test_tiny_and_huge_numbers(reset: str, dtype: torch.dtype) -> None:
    """Nothing is flushed to zero, and what overflows does so in both."""
    info = torch.finfo(dtype)
    tiny = draw(5, 2, 33, dtype=dtype) * info.smallest_normal
    found = assert_twins(tiny, tiny[0], reset=reset, leak=0.3, threshold=info.smallest_normal)
    assert ((found.membrane != 0) & (found.membrane.abs() < info.smallest_normal)).any() and found.spikes.any()
    huge = draw(5, 2, 33, dtype=dtype) * info.max
    expected, found = (run(s, huge, reset=reset, leak=1.0, threshold=info.max / 4) for s in (lif_naive, lif_scan))
    assert_identical(found.spikes, expected.spikes)
    assert_identical(found.membrane, expected.membrane)
    assert not found.membrane.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@every_reset
def test_half_precision_is_the_scan_in_float32(reset: str, dtype: torch.dtype) -> None:
    def rounded(spikes: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
        at_spikes, at_membrane = at_both(spikes.float(), membrane)
        return at_spikes.to(dtype).to(spikes.dtype), at_membrane

    x, before = draw(6, 3, 47).to(dtype), draw(3, 47, seed=1)
    leaks: list[float | Tensor] = [0.9, draw(47, low=0.2, high=1.0), draw(47, low=0.2, high=1.0).to(dtype)]
    for leak, membrane in product(leaks, (None, before)):
        half = run(lif_scan, x, membrane, leak=leak, reset=reset, arriving=rounded)
        wide = run(lif_scan, x.float(), membrane, leak=leak, reset=reset, arriving=rounded)
        assert_identical(half.spikes, wide.spikes.to(dtype))
        assert_identical(half.membrane, wide.membrane)
        assert half.membrane.dtype == torch.float32
        assert_identical(half.grads["current"], wide.grads["current"].to(dtype))
