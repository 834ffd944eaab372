"""The task of a workload: layers, input and target."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[[Tensor], Tensor]
"""Function from a sequence `[time, batch, *feature]`, or batch first, to its output."""


class Spikes(nn.Identity):
    """Marks the place of a neuron layer; without neurons it is the identity."""


@dataclass(frozen=True)
class Task:
    """A training step to time.

    Attributes:
        layers: Stateless layers with shared weights, and `Spikes` in place of neurons.
        x: Input. Shape `[time, batch, *feature]`.
        y: Labels int64 `[batch]`, for the cross-entropy averaged over steps; or the gradient of the output,
            `[time, batch, *output]`.
        at_input: True if the gradient of the input is computed too. Default: False.
    """

    layers: nn.Sequential
    x: Tensor
    y: Tensor
    at_input: bool = False

    @property
    def labelled(self) -> bool:
        """True if `y` holds labels."""
        return not self.y.is_floating_point()

    def target(self) -> Tensor:
        """Return `y` with a time axis, `[time, batch, ...]`."""
        return self.y.expand(self.x.shape[:2]) if self.labelled else self.y

    def clear(self) -> None:
        """Reset the gradients of the layers."""
        for p in self.layers.parameters():
            p.grad = None


def teach(output: Tensor, target: Tensor) -> None:
    """Run the backward pass from an output.

    Args:
        output: Output of a network. Shape `[time, batch, *output]`, or batch first.
        target: Labels or gradient of the output, in the same layout.
    """
    if target.is_floating_point():
        output.backward(target)
    else:
        F.cross_entropy(output.flatten(0, 1), target.flatten()).backward()


def folded(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a stateless layer to all time steps of `[time, batch, *feature]`, or batch first, at once."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def with_neurons(layers: nn.Sequential, neuron: Callable[[], Forward]) -> Forward:
    """Return a function of a sequence that applies the layers to all time steps at once, with neurons at each mark."""
    neurons = {i: neuron() for i, layer in enumerate(layers) if isinstance(layer, Spikes)}

    def forward(x: Tensor) -> Tensor:
        for i, layer in enumerate(layers):
            x = neurons[i](x) if i in neurons else folded(layer, x)
        return x

    return forward


@torch.no_grad()
def calibrate(layers: nn.Sequential, x: Tensor, rows: int = 256) -> None:
    """Scale the weights so that the current of every neuron layer has standard deviation 1, and set biases to 0.

    Args:
        layers: Layers of a `Task`, changed in place.
        x: Input. Shape `[time, batch, *feature]`.
        rows: Number of rows of time and batch to measure on, at least 1. Default: 256.
    """
    h = x.flatten(0, 1)[:rows]
    weighted: nn.Module | None = None
    for layer in layers:
        h = layer(h)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weighted = layer
            if layer.bias is not None:
                h = h - layer.bias.view(-1, *[1] * (h.dim() - 2))
                layer.bias.zero_()
        elif isinstance(layer, Spikes) and weighted is not None:
            scale = h.std()
            weighted.weight /= scale  # type: ignore[operator]
            h = (h / scale >= 1).to(h.dtype)
