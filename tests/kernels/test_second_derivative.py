"""A gradient penalty would need a second derivative, which the fused scan has not: it must not be lost unsaid."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_naive, lif_scan
from tests.kernels.support import DEFAULTS, Scan, draw, needs_kernels
from tests.kernels.test_current import alpha_scan

pytestmark = needs_kernels

Loss = Callable[[Tensor, Tensor], Tensor]


def linear(spikes: Tensor, membrane: Tensor) -> Tensor:
    return spikes.sum() + membrane.sum()


def curved(spikes: Tensor, membrane: Tensor) -> Tensor:
    return membrane.square().sum()


def penalty(scan: Scan, loss: Loss, everything: bool) -> Tensor:
    """Return what the square of a loss's gradient adds to the gradient; asked of all leaves, or of the current."""
    x = draw(4, 2, 5).requires_grad_()
    value = loss(*scan(x, None, **DEFAULTS))
    (grad,) = torch.autograd.grad(value, x, create_graph=True)
    penalised = value + grad.square().sum()
    if everything:
        penalised.backward()
        assert x.grad is not None
        return x.grad - grad.detach()
    return torch.autograd.grad(penalised, x)[0] - grad.detach()


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("loss", [linear, curved])
def test_the_naive_scan_has_one(loss: Loss, everything: bool) -> None:
    assert penalty(lif_naive, loss, everything).any()


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("loss", [linear, curved])
def test_the_fused_scan_refuses(loss: Loss, everything: bool) -> None:
    with pytest.raises(RuntimeError, match="Set SPIKEWRIGHT_NATIVE=0"):
        penalty(lif_scan, loss, everything)


def test_that_of_alpha_neurons_refuses_too() -> None:
    options = {name: value for name, value in DEFAULTS.items() if name != "leak"}

    def scan(x: Tensor, membrane: Tensor | None, **_: object) -> tuple[Tensor, Tensor]:
        spikes, _current, after = alpha_scan(x, None, membrane, tau=3.0, **options)
        return spikes, after

    with pytest.raises(RuntimeError, match="Set SPIKEWRIGHT_NATIVE=0"):
        penalty(scan, linear, everything=True)
