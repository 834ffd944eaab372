"""snnTorch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.bench.peers._base import ALPHA, TAU, load


@dataclass(frozen=True)
class SnnTorch:
    """`Leaky` in a loop over time with explicit state; its variants without a loop have no reset."""

    name: str = "snnTorch"
    distribution: str = "snntorch"
    written_for: str = "1.0.0"
    batch_first: bool = False
    differs: str = "reset in the graph; a spike late above twice the threshold"

    def neuron(self) -> Callable[[Tensor], Tensor]:
        snntorch, surrogate = load(self.distribution, "snntorch", "snntorch.surrogate")
        cell = snntorch.Leaky(beta=1 - 1 / TAU, spike_grad=surrogate.sigmoid(slope=ALPHA), reset_delay=False)

        def scan(current: Tensor) -> Tensor:
            membrane, spikes = torch.zeros_like(current[0]), []
            for step in current:
                fired, membrane = cell(step, membrane)
                spikes.append(fired)
            return torch.stack(spikes)

        return scan
