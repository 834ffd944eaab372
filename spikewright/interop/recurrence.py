"""Recurrent layers in place of those of other libraries, with the weights that theirs have."""

import torch
from torch import Tensor, nn

from spikewright.layers import Feedback, Recurrent, SynapticDelay
from spikewright.neurons import Neuron
from spikewright.temporal import SiteState


class Scale(nn.Module):
    """A factor, one or one of every neuron.

    Args:
        factor: The factor, a parameter or a tensor that is shared.
    """

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        if isinstance(factor, nn.Parameter):
            self.factor = factor
        else:
            self.register_buffer("factor", factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Beside(Feedback):
    """Puts the spikes of the step before beside the input, on the last axis; zeros at the first step.

    Args:
        source: Neurons whose spikes come back.
        width: Number of them.
    """

    def __init__(self, source: nn.Module, width: int) -> None:
        super().__init__(nn.Identity(), source)
        self.width = width

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        last = state.get("last")
        if last is None:
            last = x.new_zeros(*x.shape[1:-1], self.width)
        return torch.cat((x, last.to(x.dtype).unsqueeze(0)), -1), state


class Through(nn.Module):
    """Neurons behind a layer that reads the input and their own last spikes side by side.

    Args:
        neuron: The neurons.
        layer: The layer, an `nn.Linear`.
    """

    def __init__(self, neuron: Neuron, layer: nn.Linear) -> None:
        super().__init__()
        self.neuron, self.layer = neuron, layer
        self.beside = Beside(neuron, layer.in_features - layer.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(self.beside(x)))


class Telling(nn.Module):
    """A recurrent layer that returns its potential beside its spikes.

    Args:
        neuron: The neurons, which return both.
        transform: Map from their spikes to their current.
    """

    def __init__(self, neuron: Neuron, transform: nn.Module) -> None:
        super().__init__()
        self.neuron, self.spikes = neuron, nn.Identity()
        self.feedback = Feedback(transform, self.spikes, first="bias")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potential = self.neuron(self.feedback(x))
        return self.spikes(spikes), potential


def with_potential(layer: nn.Module) -> nn.Module:
    """Return a recurrent layer that returns the potential of its neurons too."""
    assert isinstance(layer, Recurrent)
    return Telling(layer.neuron, layer.transform)


def delayed(spikes: Tensor) -> Tensor:
    """Return the spikes of the step before, zeros at first, `[time, batch, *feature]`."""
    return torch.cat((torch.zeros_like(spikes[:1]), spikes[:-1]))


def one_step_late() -> SynapticDelay:
    """Return a delay of one step of all features, whatever their shape, that is not trained."""
    delay = SynapticDelay((1,), max_delay=2, init=1.0)
    delay.delay_logit.requires_grad_(False)
    return delay


def joined(back: nn.Module, x: Tensor, spikes: Tensor) -> Tensor:
    """Return the current of neurons: their input, and what a layer makes of their spikes of the step before.

    Args:
        back: The layer.
        x: Input, `[time, batch, *feature]`.
        spikes: Spikes, in the same shape.
    """
    return x + back(delayed(spikes).flatten(0, 1)).unflatten(0, x.shape[:2])


class Nothing(nn.Module):
    """In place of a layer through which spikes come back: nothing does."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)
