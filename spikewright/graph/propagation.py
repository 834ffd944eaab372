r"""Spikes that travel over a graph, step by step, and the gradient that travels back.

Every node has a group of alpha neurons for every query, and the relation of an edge delays what it transmits.  At step
t >= 1, with :math:`\rho = e^{-1/\tau}`, x the output of the synapses for the messages that arrive, and I the constant
current into the source of a query,

.. math::
    c_t = \rho c_{t-1} + \tfrac{e}{\tau} x_t, \quad u_t = \rho u_{t-1} (1 - s_{t-1}) + c_t + I, \quad
    s_t = \Theta(u_t - V_{th}),

where the message of an edge of relation r is :math:`s_{t-1-\delta_r}` of its source.  Step 0 has the current I alone.
The whole run is one function to autograd: it keeps the potentials, and a byte of history per neuron and step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikewright.graph.backward import Gradients, Recorded, backward
from spikewright.graph.forward import Propagation, forward
from spikewright.graph.messages import EdgeSpikes


def propagate(
    propagation: Propagation,
    source_current: Tensor,
    delays: Tensor,
    weights: Tensor | None = None,
    edge_weight: Tensor | None = None,
    parameters: Sequence[nn.Parameter] = (),
) -> Tensor:
    """Run the network; return how much and how early every neuron fired, `[N, B, D]`, from 0 to 1; differentiable.

    Args:
        propagation: Settings of the run.
        source_current: Constant current into the source of each query, `[B, D]`.
        delays: Delays of each relation, `[R, B, D]`, in steps; rounded, half to even, with the gradient passed through.
        weights: Weights of the messages of each relation, `[R, B, D]`; `None` for 1.
        edge_weight: A weight for every edge, `[E]`; `None` for 1.
        parameters: Parameters of the synapses.
    """
    if weights is not None:  # under autocast they may have another precision than the current
        weights = weights.to(source_current.dtype)
    return _Run.apply(propagation, source_current, delays, weights, edge_weight, *parameters)  # type: ignore[return-value]


@torch.no_grad()
def spikes(
    propagation: Propagation,
    source_current: Tensor,
    delays: Tensor,
    weights: Tensor | None = None,
    edge_weight: Tensor | None = None,
) -> Tensor:
    """Return the spikes of a run, bool, `[T, N, B, D]`; arguments as for `propagate`."""
    histories: list[Tensor] = []
    forward(propagation, source_current, _bits(delays), _flat(weights), edge_weight, histories, None)
    return (torch.stack(histories) & 1).bool().unflatten(2, source_current.shape)


def _bits(delays: Tensor) -> Tensor:
    return delays.detach().round().to(torch.uint8).flatten(1).contiguous()


def _flat(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.detach().flatten(1).contiguous()


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        propagation: Propagation,
        source_current: Tensor,
        delays: Tensor,
        weights: Tensor | None,
        edge_weight: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        bits, flat = _bits(delays), _flat(weights)
        if not any(ctx.needs_input_grad):
            return forward(propagation, source_current, bits, flat, edge_weight, None, None)
        histories: list[Tensor] = []
        potentials: list[Tensor] = []
        read = forward(propagation, source_current, bits, flat, edge_weight, histories, potentials)
        ctx.propagation, ctx.parameters, ctx.shape = propagation, parameters, source_current.shape
        ctx.save_for_backward(bits, flat, edge_weight, *histories, *potentials)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        delays, weights, edge_weight, *saved = ctx.saved_tensors
        steps = ctx.propagation.dynamics.steps
        sent = [EdgeSpikes(history, delays, weights) for history in saved[:steps]]
        run = Recorded(ctx.propagation, sent, saved[steps:], edge_weight, ctx.parameters)
        found = backward(run, Gradients.zeros(run, ctx.needs_input_grad), grads[0])
        by_relation = (None if g is None else g.view(-1, *ctx.shape) for g in (found.delays, found.weights))
        learned = iter(found.parameters)
        to_parameters = (next(learned) if p.requires_grad else None for p in ctx.parameters)
        return None, found.source_current, *by_relation, found.edge_weight, *to_parameters
