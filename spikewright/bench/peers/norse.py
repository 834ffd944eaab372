"""Norse."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.bench.peers._base import ALPHA, TAU, load


@dataclass(frozen=True)
class Norse:
    """`LIFBoxCell` in a loop over time; its surrogate `tanh` with k is the logistic function of 2kx.

    Args:
        compiled: True runs the cell through `torch.compile`, anew for every task. Default: False.
    """

    compiled: bool = False
    distribution: str = "norse"
    written_for: str = "1.1.0"
    batch_first: bool = False
    differs: str = ""

    @property
    def name(self) -> str:
        return "Norse (compiled)" if self.compiled else "Norse"

    def neuron(self) -> Callable[[Tensor], Tensor]:
        box, module = load(self.distribution, "norse.torch.functional.lif_box", "norse.torch.module.lif_box")
        parameters = box.LIFBoxParameters(
            tau_mem_inv=torch.tensor(1000 / TAU), method="tanh", alpha=ALPHA / 2, reset_method=_subtract
        )
        cell = module.LIFBoxCell(parameters, dt=0.001)
        if self.compiled:
            torch.compiler.reset()
            cell = torch.compile(cell)

        def scan(current: Tensor) -> Tensor:
            current, spikes = TAU * current, []  # Norse divides by tau
            state = box.LIFBoxFeedForwardState(v=torch.zeros_like(current[0]))
            for step in current:
                fired, state = cell(step, state)
                spikes.append(fired)
            return torch.stack(spikes)

        return scan


def _subtract(spikes: Tensor, membrane: Tensor, reset: Tensor, threshold: Tensor) -> Tensor:
    return membrane - spikes.detach() * threshold
