"""The way back through one step of the neurons of a graph: the kernel, and the same step by autograd."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.graph.dynamics import AlphaDynamics
from spikewright.kernels import native
from spikewright.surrogate import BUILT_IN, Surrogate
from tests.kernels.support import draw


class Bell(Surrogate):
    """A surrogate that the kernels do not know."""

    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-x.square())


def by_autograd(dynamics: AlphaDynamics, start: list[Tensor], arriving: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of membrane, current and input before a step, given those of spikes and states after it."""
    before, current, x = (value.requires_grad_() for value in start)
    after = dynamics.rho * current + dynamics.gain * x
    potential = dynamics.rho * before + after
    spikes = dynamics.surrogate(potential - dynamics.threshold)
    outputs = spikes, potential * (1 - spikes), after
    return torch.autograd.grad(outputs, (before, current, x), arriving)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "surrogate",
    [*(kind(*given) for kind in BUILT_IN for given in ((), (0.8, 1.3))), Bell()],  # type: ignore[call-arg]
    ids=lambda s: str(s) if type(s) in BUILT_IN else "Bell",
)
def test_every_slope(surrogate: Surrogate, dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(native, "available", lambda x: False)
    elif native._KERNELS is None:
        pytest.skip(f"there are no compiled kernels: {native._REASON}")
    dynamics: Any = AlphaDynamics(surrogate=surrogate, tau=3.0, threshold=0.9)
    start = [draw(4, 3, 7, dtype=dtype, seed=seed) for seed in range(3)]
    spikes, read, membrane, current = (draw(4, 3, 7, dtype=dtype, low=-1, high=1, seed=seed) for seed in range(3, 7))
    expected = by_autograd(dynamics, [value.clone() for value in start], [spikes + 0.25 * read, membrane, current])
    potential = dynamics.rho * (start[0] + start[1]) + dynamics.gain * start[2]
    assert 0.1 < (potential >= dynamics.threshold).double().mean() < 0.9
    x = dynamics.back(spikes, read, potential, 0.25, membrane, current)
    for found, wanted in zip((membrane, current, x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=20 * torch.finfo(dtype).eps * float(wanted.abs().max()))
    assert not spikes.any()
