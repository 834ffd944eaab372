r"""Spikes that travel over a graph, step by step, and the gradient that travels back.

Every node has a group of alpha neurons for every query, and the relation of an edge delays what it transmits.  At step
t >= 1, with :math:`\rho = e^{-1/\tau}` and what the synapses make of messages, x,

.. math::
    c_t = \rho c_{t-1} + \tfrac{e}{\tau} x_t, \quad u_t = \rho u_{t-1} (1 - s_{t-1}) + c_t + I, \quad
    s_t = \Theta(u_t - V_{th}),

where the message of an edge of relation r is :math:`s_{t-1-\delta_r}` of its source.  Step 0 has the current I alone.
The whole run is one function to autograd: it keeps the potentials, and a byte of history per neuron and step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikewright.graph.messages import Credit, Spikes, along_edges, arriving, credit
from spikewright.graph.structure import RelationalGraph
from spikewright.surrogate import Sigmoid, Surrogate

DelayGrad = Literal["exact", "finite_difference", "reference"]
Synapses = Callable[[Tensor, Tensor], Tensor]
"""From messages, `[arrivals, B, D]`, and the last spikes, `[N, B, D]`, to the current x, `[N, B, D]`."""
LONGEST = 6
"""Delay that a byte of history can serve, with one step more for the gradient of delays."""


@dataclass(frozen=True)
class Dynamics:
    """Of all neurons, and how a run is read and differentiated.

    Attributes:
        steps: Length T of a run.
        tau: Time constant of current and membrane, in steps.
        threshold: Of the membrane.
        decay: A spike at step t counts `decay ** t`, normalised to sum to 1.
        surrogate: Slope of a spike.
        delay_grad: Gradient of a delay.  "exact": of the response to spikes that arrive a fraction of a step later;
            "finite_difference": of delaying by one step; "reference": of the released code, which filters twice.
    """

    steps: int = 10
    tau: float = 4.0
    threshold: float = 2.0
    decay: float = 0.95
    surrogate: Surrogate = field(default_factory=Sigmoid)
    delay_grad: DelayGrad = "exact"

    @property
    def rho(self) -> float:
        """What is left of a current or a membrane after one step."""
        return math.exp(-1 / self.tau)

    @property
    def gain(self) -> float:
        """What an input adds to the current."""
        return math.e / self.tau

    @property
    def shares(self) -> list[float]:
        """What a spike at each step counts."""
        powers = [self.decay**t for t in range(self.steps)]
        return [p / sum(powers) for p in powers]

    @property
    def slopes(self) -> tuple[float, float]:
        """What a spike, and one a step earlier, give the gradient of the delay of a message."""
        return (1 / self.tau - 1, self.rho) if self.delay_grad == "exact" else (-1.0, 1.0)

    def traces(self, histories: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        r"""Return :math:`-\sum_k \kappa(t-k) s_k` with :math:`\kappa(i) = \tfrac{e}{\tau}(1-\tfrac{i+1}{\tau})\rho^i`."""
        plain = late = torch.zeros_like(histories[0], dtype=dtype)
        traces = []
        for history in histories:
            late = self.rho * (late + plain)
            plain = self.rho * plain + (history & 1)
            traces.append(-self.gain * ((1 - 1 / self.tau) * plain - late / self.tau))
        return torch.stack(traces)


@dataclass(frozen=True)
class Journey:
    """What a run has beside tensors that learn.

    Attributes:
        graph: Along whose edges spikes travel.
        sources: The node that each query drives, `[B]`.
        dynamics: Of all neurons.
        synapses: What turns messages into currents.
        longest: The longest delay.
    """

    graph: RelationalGraph
    sources: Tensor
    dynamics: Dynamics
    synapses: Synapses
    longest: int


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
    _forward(journey, drive, _bits(delays), weights, kept, histories, None)
    return (torch.stack(histories) & 1).bool().unflatten(2, drive.shape)


def _bits(delays: Tensor) -> Tensor:
    return delays.detach().round().to(torch.uint8).flatten(1)


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
    weights = _flat(weights)
    current = drive.new_zeros(graph.nodes, *drive.shape)
    membrane, read = torch.zeros_like(current), torch.zeros_like(current)
    history = torch.zeros_like(current, dtype=torch.uint8).flatten(1)
    for t, share in enumerate(dynamics.shares):
        if t:
            messages = arriving(graph, Spikes(history, delays, weights), kept, drive.dtype)
            x = journey.synapses(messages.unflatten(1, drive.shape), _last(history, drive))
            current.mul_(dynamics.rho).add_(x, alpha=dynamics.gain)
            membrane.mul_(dynamics.rho).add_(current)
        membrane.index_put_((journey.sources, queries), drive, accumulate=True)
        if potentials is not None:
            potentials.append(membrane.clone())
        fired = membrane >= dynamics.threshold
        membrane.masked_fill_(fired, 0.0)
        read.add_(fired, alpha=share)
        history = (history << 1) | fired.flatten(1)
        if histories is not None:
            histories.append(history)
    return read


def _last(history: Tensor, drive: Tensor) -> Tensor:
    return (history & 1).to(drive.dtype).unflatten(1, drive.shape)


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
        learns = any(ctx.needs_input_grad)
        histories, potentials = ([], []) if learns else (None, None)
        bits = _bits(delays)
        read = _forward(journey, drive, bits, weights, kept, histories, potentials)
        if learns:
            ctx.journey, ctx.steps = journey, len(histories or ())
            ctx.save_for_backward(drive, bits, _flat(weights), kept, *(histories or ()), *(potentials or ()))
            ctx.parameters = parameters
        return read

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        journey, dynamics = ctx.journey, ctx.journey.dynamics
        drive, delays, weights, kept, *saved = ctx.saved_tensors
        histories, potentials = saved[: ctx.steps], saved[ctx.steps :]
        _, _, to_delays, to_weights, to_kept, *_ = ctx.needs_input_grad
        queries, slots = torch.arange(len(drive), device=drive.device), journey.longest + 1
        g_drive = torch.zeros_like(drive)
        g_delays = torch.zeros_like(delays, dtype=drive.dtype) if to_delays else None
        g_weights = torch.zeros_like(weights) if to_weights else None
        g_kept = torch.zeros_like(kept) if to_kept else None
        g_parameters = [torch.zeros_like(p) for p in ctx.parameters]
        traces = dynamics.traces(histories, drive.dtype) if dynamics.delay_grad == "reference" else None
        ring = drive.new_zeros(slots, journey.graph.nodes, delays.shape[1])
        g_current = g_membrane = drive.new_zeros(journey.graph.nodes, *drive.shape)
        for t in reversed(range(ctx.steps)):
            here, potential = ring[t % slots], potentials[t]
            g_spike = torch.add(here.view_as(potential), grads[0], alpha=dynamics.shares[t])
            here.zero_()
            g = g_spike.addcmul_(g_membrane, potential, value=-1)
            g.mul_(dynamics.surrogate.slope(potential - dynamics.threshold))
            g.add_(g_membrane.masked_fill(potential >= dynamics.threshold, 0.0))
            g_drive += g[journey.sources, queries]
            g_current = dynamics.rho * g_current + g
            g_membrane = dynamics.rho * g
            if t == 0:
                break
            sent = Spikes(histories[t - 1], delays, weights)
            messages = arriving(journey.graph, sent, kept, drive.dtype).unflatten(1, drive.shape)
            inputs = [messages.requires_grad_(), _last(histories[t - 1], drive).requires_grad_(), *ctx.parameters]
            with torch.enable_grad():
                x = journey.synapses(inputs[0], inputs[1])
            g_messages, g_last, *found = torch.autograd.grad(
                x, inputs, g_current * dynamics.gain, allow_unused=True, materialize_grads=False
            )
            for total, part in zip(g_parameters, found, strict=True):
                total += part
            if g_last is not None:
                ring[(t - 1) % slots] += g_last.flatten(1)
            to = Credit(
                ring, (t - 1) % slots, min(journey.longest, t - 1), g_delays, g_weights, *dynamics.slopes,
                None if traces is None else traces[:t],
            )  # fmt: skip
            g_messages = g_messages.flatten(1).contiguous()
            credit(journey.graph, sent, kept, g_messages, to)
            if g_kept is not None:
                g_kept += along_edges(journey.graph, g_messages, sent.pairs(journey.graph, drive.dtype))
        shape = (-1, *drive.shape)
        return (
            *(None, g_drive),
            *(None if g is None else g.view(shape) for g in (g_delays, g_weights)),
            *(g_kept, *g_parameters),
        )
