"""The gradient that travels back through a run of `spikewright.graph.forward`, from the last step to the first."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.graph.forward import Propagation, queries
from spikewright.graph.messages import EdgeGradients, EdgeSpikes, add_gradients, along_edges, arriving


@dataclass(frozen=True)
class Recorded:
    """A run that has gone forward.

    Attributes:
        propagation: Its settings.
        sent: The spikes after each step, as messages.
        potentials: The potential before the reset at each step, `[N, B, D]`.
        edge_weight: As for `propagate`.
        parameters: As for `propagate`.
    """

    propagation: Propagation
    sent: list[EdgeSpikes]
    potentials: list[Tensor]
    edge_weight: Tensor | None
    parameters: Sequence[Tensor]

    @property
    def learning(self) -> list[Tensor]:
        """The parameters that want a gradient."""
        return [p for p in self.parameters if p.requires_grad]


@dataclass
class Gradients:
    """Gradients of the arguments of `propagate`, added up step by step; `None` where none is asked for."""

    source_current: Tensor
    delays: Tensor | None
    weights: Tensor | None
    edge_weight: Tensor | None
    parameters: list[Tensor]

    @classmethod
    def zeros(cls, run: Recorded, needed: Sequence[bool]) -> "Gradients":
        """Return zeros for the arguments of `propagate` that are `needed`, by position."""
        potential, (delays, weights) = run.potentials[0], (run.sent[0].delays, run.sent[0].weights)
        return cls(
            torch.zeros_like(potential[0]),
            torch.zeros_like(delays, dtype=potential.dtype) if needed[2] else None,
            torch.zeros_like(weights) if needed[3] and weights is not None else None,
            torch.zeros_like(run.edge_weight) if needed[4] and run.edge_weight is not None else None,
            [torch.zeros_like(p) for p in run.learning],
        )


@dataclass
class _Carried:
    """Gradients on their way to earlier steps.

    Attributes:
        spikes: Gradient of the spikes of a step by messages, `[N, columns]`; in a ring of as many steps as there are
            delays, `[slots, N, columns]`.
        current: Gradient of the current, `[N, B, D]`.
        membrane: Gradient of the potential after the reset, `[N, B, D]`.
    """

    spikes: Tensor
    current: Tensor
    membrane: Tensor

    def slot(self, step: int) -> int:
        """Return the place of a step in the ring."""
        return step % len(self.spikes)


def backward(run: Recorded, total: Gradients, read: Tensor) -> Gradients:
    """Return `total` with all gradients, given that of what is read, `[N, B, D]`."""
    dynamics, like = run.propagation.dynamics, run.potentials[0]
    ring = like.new_zeros(run.propagation.longest + 1, *run.sent[0].history.shape)
    carried = _Carried(ring, torch.zeros_like(like), torch.zeros_like(like))
    by_traces = dynamics.delay_grad == "reference"
    traces = dynamics.traces([sent.history for sent in run.sent], like.dtype) if by_traces else None
    for t in reversed(range(dynamics.steps)):
        grad_x = _through_neurons(run, total, carried, t, read)
        if t:
            grad_messages = _through_synapses(run, total, carried, t, grad_x)
            _through_edges(run, total, carried, t, grad_messages, traces)
    total.source_current /= dynamics.rho
    return total


def _through_neurons(run: Recorded, total: Gradients, carried: _Carried, t: int, read: Tensor) -> Tensor:
    """Return the gradient of what synapses deliver at step t, `[N, B, D]`."""
    dynamics, arrived = run.propagation.dynamics, carried.spikes[carried.slot(t)].view_as(read)
    grad_x = dynamics.back(arrived, read, run.potentials[t], dynamics.shares[t], carried.membrane, carried.current)
    # The potential takes in the membrane times rho, and the current of a source as it is.
    total.source_current += carried.membrane[run.propagation.sources, queries(total.source_current)]
    return grad_x


def _through_synapses(run: Recorded, total: Gradients, carried: _Carried, t: int, grad_x: Tensor) -> Tensor:
    """Return the gradient of the messages that arrive at step t, `[arrivals, columns]`."""
    propagation, sent, shape = run.propagation, run.sent[t - 1], grad_x.shape[1:]
    messages = arriving(propagation.graph, sent, run.edge_weight, grad_x.dtype).unflatten(1, shape).requires_grad_()
    last = propagation.last(sent.history.unflatten(1, shape), grad_x)
    inputs = [messages] if last is None else [messages, last.requires_grad_()]
    with torch.enable_grad():
        x = propagation.synapses(messages, last)
    grad_messages, *found = torch.autograd.grad(x, [*inputs, *run.learning], grad_x)
    if last is not None:
        carried.spikes[carried.slot(t - 1)] += found.pop(0).flatten(1)
    for parameter, part in zip(total.parameters, found, strict=True):
        parameter += part
    return grad_messages.flatten(1).contiguous()


def _through_edges(
    run: Recorded, total: Gradients, carried: _Carried, t: int, grad_messages: Tensor, traces: Tensor | None
) -> None:
    """Add what messages that arrive at step t give spikes, delays and weights."""
    propagation, sent = run.propagation, run.sent[t - 1]
    to = EdgeGradients(
        carried.spikes,
        carried.slot(t - 1),
        min(propagation.longest, t - 1),
        total.delays,
        total.weights,
        *propagation.dynamics.slopes,
        None if traces is None else traces[:t],
    )
    add_gradients(propagation.graph, sent, run.edge_weight, grad_messages, to)
    if total.edge_weight is not None:
        pairs = sent.pairs(propagation.graph, grad_messages.dtype)
        total.edge_weight += along_edges(propagation.graph, grad_messages, pairs)
