"""What every contender of a workload is given: layers, an input, and what the output is judged by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[[Tensor], Tensor]
"""A map of a sequence, `[time, batch, *feature]` (or batch first), to its output."""


class Spikes(nn.Identity):
    """Marks where neurons stand; left as it is, nothing stands there."""


@dataclass(frozen=True)
class Task:
    """A workload's work.

    Attributes:
        layers: Stateless layers, whose weights all contenders share, and `Spikes` where neurons stand.
        x: Input, `[time, batch, *feature]`.
        y: Labels `[batch]`, for the mean over steps of the cross-entropy; or the gradient at the output,
            `[time, batch, *output]`.
        at_input: Whether the gradient at the input is wanted, too.
    """

    layers: nn.Sequential
    x: Tensor
    y: Tensor
    at_input: bool = False

    @property
    def labelled(self) -> bool:
        """Whether `y` holds labels."""
        return not self.y.is_floating_point()

    def target(self) -> Tensor:
        """Return `y` with a time axis, `[time, batch, ...]`."""
        return self.y.expand(self.x.shape[:2]) if self.labelled else self.y

    def clear(self) -> None:
        """Forget the gradients of the layers."""
        for p in self.layers.parameters():
            p.grad = None


def teach(output: Tensor, target: Tensor) -> None:
    """Run the backward pass from an output, `[time, batch, *output]` or batch first, its target in the same layout."""
    if target.is_floating_point():
        output.backward(target)
    else:
        F.cross_entropy(output.flatten(0, 1), target.flatten()).backward()


def folded(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a stateless layer to all steps of `[time, batch, *feature]`, or batch first, at once."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def with_neurons(layers: nn.Sequential, neuron: Callable[[], Forward]) -> Forward:
    """Return the map of a sequence through layers, each on all steps at once, with a neuron of its own at each mark."""
    neurons = {i: neuron() for i, layer in enumerate(layers) if isinstance(layer, Spikes)}

    def forward(x: Tensor) -> Tensor:
        for i, layer in enumerate(layers):
            x = neurons[i](x) if i in neurons else folded(layer, x)
        return x

    return forward


@torch.no_grad()
def calibrate(layers: nn.Sequential, x: Tensor, rows: int = 256) -> None:
    """Scale the weights so that the current of every neuron layer has standard deviation 1, and neurons fire.

    Args:
        layers: As in `Task`; weights are changed, biases set to zero.
        x: Input, `[time, batch, *feature]`.
        rows: How many rows of time and batch are looked at.
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
