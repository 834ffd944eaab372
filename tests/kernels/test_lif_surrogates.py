"""Slopes in the fused backward scan: the built-in ones, and those of the user's own."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_scan
from spikewright.surrogate import BUILT_IN, Rectangle, Sigmoid, Surrogate
from tests.kernels.support import assert_identical, assert_twins, draw, needs_kernels, run

pytestmark = needs_kernels


class Bell(Surrogate):
    """Needs nothing but its slope."""

    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-x.square())


class Steeper(Sigmoid):
    """A built-in one with another slope must not be taken for it."""

    def slope(self, x: Tensor) -> Tensor:
        return 3 * super().slope(x)


class Late(Surrogate):
    """Does not fire where the others do, so it cannot be fused."""

    def slope(self, x: Tensor) -> Tensor:
        return 0.5 * torch.ones_like(x)

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x - 0.25)


class PerChannel(Surrogate):
    """Has a width for each channel, the axis after the batch."""

    def __init__(self, widths: Tensor) -> None:
        self.widths = widths.view(-1, 1, 1)

    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-(x / self.widths).square())


FUSED = [Sigmoid(25.0), *(kind(*given) for kind in BUILT_IN for given in ((), (0.7,), (2.3, 0.3)))]  # type: ignore[call-arg]
every_surrogate = pytest.mark.parametrize(
    "surrogate", [*FUSED, Bell(), Steeper(), Late()], ids=lambda s: str(s) if s in FUSED else type(s).__name__
)


@every_surrogate
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_slope(surrogate: Surrogate, dtype: torch.dtype) -> None:
    x, before = draw(6, 3, 47, dtype=dtype), draw(3, 47, dtype=dtype, seed=1)
    leak = draw(47, dtype=dtype, low=0.2, high=1.0, seed=2)
    for reset, reset_amount in (("subtract", None), ("subtract", 0.6), ("zero", None)):
        for detached in (True, False):
            options: dict[str, Any] = {"reset": reset, "reset_amount": reset_amount, "detach_reset": detached}
            case = f"{reset}, {reset_amount}, {detached}"
            assert_twins(x, before, surrogate=surrogate, case=case, threshold=0.75, leak=leak, **options)


@every_surrogate
def test_a_slope_far_from_the_threshold(surrogate: Surrogate) -> None:
    assert_twins(draw(2, 3, 47, low=-60, high=60), detach_reset=False, surrogate=surrogate)


def test_the_exponential_is_good_to_the_last_digits() -> None:
    """Each slope by itself, down to 1e-37: the naive one, 1 - s, loses digits there, so float64 is the judge."""
    x = torch.arange(-1344, 1345) / 64  # alpha x and x + 1 are exact
    ones = lambda spikes, membrane: (torch.ones_like(spikes), None)  # noqa: E731
    found = run(lif_scan, (x + 1).view(1, 1, -1), arriving=ones, surrogate=Sigmoid(4.0)).grads["current"].flatten()
    e = torch.exp(-(4 * x.double()).abs())
    expected = 4 * e / (1 + e).square()
    relative = (found.double() - expected).abs() / expected
    assert relative.max() < 6 * torch.finfo(torch.float32).eps


def test_beyond_the_smallest_exponential_there_is_no_slope() -> None:
    x = torch.tensor([-1e30, -1e4, -100.0, -22.5, 22.5, 100.0, 1e4, 1e30]).view(1, 1, -1)
    slopes = run(lif_scan, x, arriving=lambda spikes, _: (torch.ones_like(spikes), None)).grads["current"]
    assert (slopes >= 0).all() and slopes.max() < 1e-36


def test_the_edges_of_a_rectangle_belong_to_it() -> None:
    x = torch.tensor([0.75, 1.25, 0.749, 1.251]).view(1, 1, -1)
    slopes = run(lif_scan, x, arriving=lambda s, _: (torch.ones_like(s), None), surrogate=Rectangle(0.5)).grads
    assert slopes["current"].flatten().tolist() == [2, 2, 0, 0]


def test_one_that_fires_elsewhere_is_taken_at_its_word() -> None:
    x = torch.tensor([0.9, 1.1, 1.3]).view(1, 1, -1)
    assert run(lif_scan, x, surrogate=Late()).spikes.flatten().tolist() == [0, 0, 1]
    assert run(lif_scan, x, surrogate=Bell()).spikes.flatten().tolist() == [0, 1, 1]


def test_a_slope_per_channel() -> None:
    """`slope` gets a tensor whose last axes are those of the current."""
    assert_twins(draw(4, 2, 3, 5, 6), surrogate=PerChannel(torch.tensor([0.2, 1.0, 3.0])))


@pytest.mark.parametrize("space", [(3, 3), (5, 6)])
def test_a_slope_per_channel_whatever_the_layout(space: tuple[int, int]) -> None:
    """On a square image nothing tells: the widths meet the columns instead of the channels."""
    x = draw(8, 3, *space).to(memory_format=torch.channels_last).unflatten(0, (4, 2))
    assert_twins(x, surrogate=PerChannel(torch.tensor([0.2, 1.0, 3.0])))


def test_the_built_in_slopes_are_those_of_the_surrogates() -> None:
    """The same numbers whether the kernel computes a slope or is given it."""

    def given(surrogate: Surrogate) -> Surrogate:
        kind = type("Given", (Surrogate,), {"slope": lambda self, x: surrogate.slope(x)})
        return kind()

    x = draw(6, 3, 47)
    for surrogate in (kind(0.8, 1.3) for kind in BUILT_IN):  # type: ignore[call-arg]
        one, other = (run(lif_scan, x, detach_reset=False, surrogate=s) for s in (surrogate, given(surrogate)))
        assert_identical(other.spikes, one.spikes)
        torch.testing.assert_close(other.grads["current"], one.grads["current"], rtol=1e-5, atol=1e-6)
