"""The variance of a current over time, found in one simulation and differentiated in another."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.hooks import Hooks
from spikewright.layers.batch_norm import Norm, Normalise

Simulate = Callable[[Normalise, Hooks | None], object]
"""Runs the sequence once more, with a graph from one neuron layer to the next: (what norms do, hooks) -> anything."""


def variance_in_time(x: Tensor) -> Tensor:
    """Return the variance over time, averaged over everything but channels, `[channel]`."""
    return (x - x.mean(0)).square().mean([0, 1, *range(3, x.dim())])


class Again:
    """The joint norm in a second simulation, with a graph from one neuron layer to the next and no further.

    Each norm differentiates the part of its variance that is in time as soon as it is known: the gradient of the loss
    at it was found at the rates.  The graph stays for what else reads the same current, and for norms behind this one.

    Args:
        grads: That gradient, by site, `[channel]`.
    """

    def __init__(self, grads: dict[str, Tensor]) -> None:
        self._grads = grads

    def __call__(self, site: str, module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Normalise the whole sequence, and differentiate the variance in time."""
        if site in self._grads and x.requires_grad:
            torch.autograd.backward([variance_in_time(x)], [self._grads[site]], retain_graph=True)
        if not module.training:
            return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        y = F.batch_norm(x.flatten(0, 1), None, None, module.weight, module.bias, True, 0.0, module.eps)
        return y.unflatten(0, x.shape[:2])


class _Spikes(Hooks):
    """Gathers the gradients of what neurons emit."""

    def __init__(self) -> None:
        self.leaves: dict[str, Tensor] = {}

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        self.leaves[site] = spikes.detach().requires_grad_()
        return self.leaves[site]


class _Stacked(torch.autograd.Function):
    r"""A variance in time as a function of the rates below, of a norm behind another one.

    With deviations from the mean held fixed, a rate moves every step alike, so its gradient is the sum over time of
    that of the spikes.  It is zero, unless the scale of a norm on the way depends on the rate.
    """

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, site: str, simulate: Simulate, neurons: Sequence[str], *rates: Tensor
    ) -> Tensor:
        ctx.site, ctx.simulate, ctx.neurons, ctx.types = site, simulate, neurons, [rate.dtype for rate in rates]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        spikes = _Spikes()
        with torch.enable_grad():
            ctx.simulate(Again({ctx.site: grads[0].detach()}), spikes)
        found = [spikes.leaves[site].grad for site in ctx.neurons]
        return None, None, None, None, *(g if g is None else g.sum(0).to(t) for g, t in zip(found, ctx.types))


def stacked(value: Tensor, site: str, simulate: Simulate, rates: dict[str, Tensor]) -> Tensor:
    """Return a variance in time whose backward pass reaches the rates below and the parameters in between.

    Args:
        value: It, `[channel]`.
        site: Of the norm.
        simulate: Runs the sequence once more.
        rates: Of the neurons evaluated so far, by site, `[batch, *feature]`.
    """
    return _Stacked.apply(value.detach(), site, simulate, list(rates), *rates.values())
