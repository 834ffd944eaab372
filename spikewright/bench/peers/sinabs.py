"""sinabs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.bench.peers._base import ALPHA, TAU, load


@dataclass(frozen=True)
class Sinabs:
    """`LIF` over `[batch, time, *feature]`, with the time constant of the same decay."""

    name: str = "sinabs"
    distribution: str = "sinabs"
    written_for: str = "3.1.3"
    batch_first: bool = True
    differs: str = ""

    def neuron(self) -> Callable[[Tensor], Tensor]:
        layers, activation = load(self.distribution, "sinabs.layers", "sinabs.activation")
        layer = layers.LIF(
            tau_mem=-1 / math.log(1 - 1 / TAU),
            spike_threshold=torch.tensor(1.0),
            spike_fn=activation.SingleSpike,
            reset_fn=_subtract,
            surrogate_grad_fn=_slope,
            norm_input=False,
        )
        layer.requires_grad_(False)  # sinabs trains its time constant by default

        def scan(current: Tensor) -> Tensor:
            layer.reset_states()
            return layer(current)

        return scan


def _subtract(spikes: Tensor, state: dict[str, Tensor], threshold: Tensor) -> dict[str, Tensor]:
    return {**state, "v_mem": state["v_mem"] - spikes.detach() * threshold}


def _slope(membrane: Tensor, threshold: Tensor) -> Tensor:
    s = torch.sigmoid(ALPHA * (membrane - threshold))
    return ALPHA * s * (1 - s)
