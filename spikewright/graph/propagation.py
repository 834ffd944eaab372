r"""Spikes that travel over a graph, step by step, and the gradient that travels back.

Every node has a group of alpha neurons for every query, and the relation of an edge delays what it transmits.  At step
t >= 1, with :math:`\rho = e^{-1/\tau}` and what the synapses make of messages, x,

.. math::
    c_t = \rho c_{t-1} + \tfrac{e}{\tau} x_t, \quad u_t = \rho u_{t-1} (1 - s_{t-1}) + c_t + I, \quad
    s_t = \Theta(u_t - V_{th}),

where the message of an edge of relation r is :math:`s_{t-1-\delta_r}` of its source.  Step 0 has the current I alone.
The whole run is one function to autograd: it keeps the potentials, and a byte of history per neuron and step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikewright.graph.dynamics import Dynamics
from spikewright.graph.messages import Credit, Spikes, along_edges, arriving, credit
from spikewright.graph.structure import RelationalGraph

Synapses = Callable[[Tensor, Tensor | None], Tensor]
"""From messages, `[arrivals, B, D]`, and a node's own last spikes, `[N, B, D]`, to the current x, `[N, B, D]`."""
LONGEST = 6
"""Delay that a byte of history can serve, with one step more for the gradient of delays."""


@dataclass(frozen=True)
class Journey:
    """What a run has beside tensors that learn.

    Attributes:
        graph: Along whose edges spikes travel.
        sources: The node that each query drives, `[B]`.
        dynamics: Of all neurons.
        synapses: What turns messages into currents.
        longest: The longest delay.
        own: Synapses take in the last spikes of their own node; they are given `None` if not.
    """

    graph: RelationalGraph
    sources: Tensor
    dynamics: Dynamics
    synapses: Synapses
    longest: int
    own: bool = False


def propagate(
    journey: Journey,
    drive: Tensor,
    delays: Tensor,
    weights: Tensor | None = None,
    kept: Tensor | None = None,
    parameters: Sequence[nn.Parameter] = (),
) -> Tensor:
    """Run the network; return how much and how early every neuron fired, `[N, B, D]`, from 0 to 1; differentiable.

    Args:
        journey: The rest of the run.
        drive: Constant current into the source of each query, `[B, D]`.
        delays: Of each relation, `[R, B, D]`, in steps; rounded, half to even, with the gradient passed through.
        weights: Of the messages of each relation, `[R, B, D]`; `None` for 1.
        kept: A weight for every edge, `[E]`; `None` for 1.
        parameters: What learns in the synapses.
    """
    return _Run.apply(journey, drive, delays, weights, kept, *parameters)  # type: ignore[return-value]


@torch.no_grad()
def spikes(
    journey: Journey, drive: Tensor, delays: Tensor, weights: Tensor | None = None, kept: Tensor | None = None
) -> Tensor:
    """Return the spikes of a run, bool, `[T, N, B, D]`; arguments as for `propagate`."""
    histories: list[Tensor] = []
    _forward(journey, drive, _bits(delays), _flat(weights), kept, histories, None)
    return (torch.stack(histories) & 1).bool().unflatten(2, drive.shape)


def _bits(delays: Tensor) -> Tensor:
    return delays.detach().round().to(torch.uint8).flatten(1).contiguous()


def _flat(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.detach().flatten(1).contiguous()


def _forward(
    journey: Journey,
    drive: Tensor,
    delays: Tensor,
    weights: Tensor | None,
    kept: Tensor | None,
    histories: list[Tensor] | None,
    potentials: list[Tensor] | None,
) -> Tensor:
    graph, dynamics, queries = journey.graph, journey.dynamics, torch.arange(len(drive), device=drive.device)
    current, read = (drive.new_zeros(graph.nodes, *drive.shape) for _ in range(2))
    potential, history = torch.zeros_like(current), torch.zeros_like(current, dtype=torch.uint8)
    for t, share in enumerate(dynamics.shares):
        if t:
            messages = arriving(graph, Spikes(history.flatten(1), delays, weights), kept, drive.dtype)
            x = journey.synapses(messages.unflatten(1, drive.shape), _last(journey, history, drive.dtype))
            potential = dynamics.charge(x, potential, history, current, keep=potentials is not None)
        potential.index_put_((journey.sources, queries), drive, accumulate=True)
        history = dynamics.fire(potential, history, share, read)
        if potentials is not None:
            potentials.append(potential)
        if histories is not None:
            histories.append(history.flatten(1))
    return read


def _last(journey: Journey, history: Tensor, dtype: torch.dtype) -> Tensor | None:
    return (history & 1).to(dtype) if journey.own else None


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        journey: Journey,
        drive: Tensor,
        delays: Tensor,
        weights: Tensor | None,
        kept: Tensor | None,
        *parameters: Tensor,
    ) -> Tensor:
        bits, flat = _bits(delays), _flat(weights)
        if not any(ctx.needs_input_grad):
            return _forward(journey, drive, bits, flat, kept, None, None)
        histories: list[Tensor] = []
        potentials: list[Tensor] = []
        read = _forward(journey, drive, bits, flat, kept, histories, potentials)
        ctx.journey, ctx.parameters = journey, parameters
        ctx.save_for_backward(drive, bits, flat, kept, *histories, *potentials)
        return read

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        journey, dynamics = ctx.journey, ctx.journey.dynamics
        drive, delays, weights, kept, *saved = ctx.saved_tensors
        histories, potentials = saved[: dynamics.steps], saved[dynamics.steps :]
        _, _, to_delays, to_weights, to_kept, *_ = ctx.needs_input_grad
        queries, slots = torch.arange(len(drive), device=drive.device), journey.longest + 1
        g_drive = torch.zeros_like(drive)
        g_delays = torch.zeros_like(delays, dtype=drive.dtype) if to_delays else None
        g_weights = torch.zeros_like(weights) if to_weights else None
        g_kept = torch.zeros_like(kept) if to_kept else None
        learning = [p for p in ctx.parameters if p.requires_grad]
        g_parameters = [torch.zeros_like(p) for p in learning]
        traces = dynamics.traces(histories, drive.dtype) if dynamics.delay_grad == "reference" else None
        ring = drive.new_zeros(slots, journey.graph.nodes, delays.shape[1])
        g_current, g_membrane = (drive.new_zeros(journey.graph.nodes, *drive.shape) for _ in range(2))
        shares, (here, before) = dynamics.shares, dynamics.slopes
        for t in reversed(range(dynamics.steps)):
            arrived = ring[t % slots].view_as(g_current)
            g_input = dynamics.back(arrived, grads[0], potentials[t], shares[t], g_membrane, g_current)
            g_drive += g_membrane[journey.sources, queries]
            if t == 0:
                break
            sent = Spikes(histories[t - 1], delays, weights)
            messages = arriving(journey.graph, sent, kept, drive.dtype).unflatten(1, drive.shape).requires_grad_()
            last = _last(journey, histories[t - 1].unflatten(1, drive.shape), drive.dtype)
            inputs = [messages, *(() if last is None else (last.requires_grad_(),))]
            with torch.enable_grad():
                x = journey.synapses(messages, last)
            g_messages, *found = torch.autograd.grad(x, [*inputs, *learning], g_input)
            if last is not None:
                ring[(t - 1) % slots] += found.pop(0).flatten(1)
            for total, part in zip(g_parameters, found, strict=True):
                total += part
            past = None if traces is None else traces[:t]
            to = Credit(ring, (t - 1) % slots, min(journey.longest, t - 1), g_delays, g_weights, here, before, past)
            g_messages = g_messages.flatten(1).contiguous()
            credit(journey.graph, sent, kept, g_messages, to)
            if g_kept is not None:
                g_kept += along_edges(journey.graph, g_messages, sent.pairs(journey.graph, drive.dtype))
        shape = (-1, *drive.shape)
        return (
            *(None, g_drive / dynamics.rho),
            *(None if g is None else g.view(shape) for g in (g_delays, g_weights)),
            *(g_kept, *(g_parameters.pop(0) if p.requires_grad else None for p in ctx.parameters)),
        )
