"""The definition of learning from rates where norms see all steps: a smooth program, and its slopes by differences.

A neuron layer emits the spikes it once fired, and at every step the same shift: what its rate map makes of the change
of its mean current since.  Norms pool steps and samples.  The gradient of the loss of this program, at the parameters
that the spikes were fired with, is what a rule of rates with joint norms has to find.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.oracles.machine import Params


class Shifted(nn.Module):
    """Neurons without leak over `[time * batch, *feature]`, which fire at a share of their threshold and emit it."""

    def __init__(self, threshold: float, fraction: float, steps: int) -> None:
        super().__init__()
        self.threshold, self.fraction, self.steps = nn.Parameter(torch.tensor(threshold)), fraction, steps
        self.recorded: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(0, (self.steps, -1))
        mapped = torch.minimum(x.mean(0).clamp(min=0), self.threshold)
        if self.recorded is None:
            self.recorded = self.fired(x) - mapped
        return (self.recorded + mapped).flatten(0, 1)

    def fired(self, x: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(x[0]), []
        for now in x:
            membrane = membrane + now
            spikes.append(self.threshold * (membrane >= self.fraction * self.threshold))
            membrane = membrane - spikes[-1]
        return torch.stack(spikes)


@torch.no_grad()
def slopes(twin: nn.Module, x: Tensor, y: Tensor, along: Params, width: float = 1e-5) -> dict[str, float]:
    """The derivative of the loss along a direction of each parameter, up to the fourth power of `width`.

    Args:
        twin: The network, with `Shifted` neurons.
        x: `[time, batch, *feature]`.
        y: `[batch]`.
        along: The directions.
        width: Of a difference; small, because a rate map has corners.
    """

    def moved(p: nn.Parameter, step: Tensor) -> float:
        before = p.clone()
        p.add_(step)
        output = twin(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        p.copy_(before)
        return float(F.cross_entropy(output.mean(0), y))

    def slope(p: nn.Parameter, step: Tensor) -> float:
        near, far = moved(p, step) - moved(p, -step), moved(p, 2 * step) - moved(p, -2 * step)
        return (8 * near - far) / (12 * width)

    twin(x.flatten(0, 1))  # in which the neurons fire
    return {name: slope(p, width * along[name]) for name, p in twin.named_parameters()}
