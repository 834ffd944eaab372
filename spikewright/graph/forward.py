"""A run of spikes over a graph, step by step; the equations stand in `spikewright.graph.propagation`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.graph.dynamics import AlphaDynamics
from spikewright.graph.messages import EdgeSpikes, arriving
from spikewright.graph.structure import RelationalGraph

Synapses = Callable[[Tensor, Tensor | None], Tensor]
"""From messages, `[arrivals, B, D]`, and a node's own last spikes, `[N, B, D]`, to the current x, `[N, B, D]`."""
LONGEST = 6
"""Longest delay, in steps, for which a byte of history is enough: the gradient of delays needs one bit more."""


@dataclass(frozen=True)
class Propagation:
    """The settings of a run, which have no gradient.

    Attributes:
        graph: Graph along whose edges spikes travel.
        sources: Source node of each query, `[B]`.
        dynamics: Dynamics of all neurons.
        synapses: Function from messages to currents.
        longest: Longest delay, in steps, 0 to `LONGEST`.
        self_loops: Whether synapses are given the last spikes of their own node, or `None` in their place.
    """

    graph: RelationalGraph
    sources: Tensor
    dynamics: AlphaDynamics
    synapses: Synapses
    longest: int
    self_loops: bool = False

    def last(self, history: Tensor, like: Tensor) -> Tensor | None:
        """Return the last spikes of a history `[N, B, D]` in the precision of `like`, if synapses are given them."""
        return (history & 1).to(like.dtype) if self.self_loops else None


def queries(source_current: Tensor) -> Tensor:
    """Return the number of each query, `[B]`."""
    return torch.arange(len(source_current), device=source_current.device)


def forward(
    propagation: Propagation,
    source_current: Tensor,
    delays: Tensor,
    weights: Tensor | None,
    edge_weight: Tensor | None,
    histories: list[Tensor] | None,
    potentials: list[Tensor] | None,
) -> Tensor:
    """Run the network; return what is read, `[N, B, D]`.

    Args:
        propagation: Settings of the run.
        source_current: Constant current into the source of each query, `[B, D]`.
        delays: Delays of each relation, whole numbers, `[R, columns]`, uint8.
        weights: Weights of the messages of each relation, `[R, columns]`; `None` for 1.
        edge_weight: A weight for every edge, `[E]`; `None` for 1.
        histories: Takes the history after each step, `[N, columns]`; `None` keeps none.
        potentials: Takes the potential before the reset at each step, `[N, B, D]`; `None` keeps none.
    """
    graph, dynamics, shape = propagation.graph, propagation.dynamics, source_current.shape
    current, read = (source_current.new_zeros(graph.nodes, *shape) for _ in range(2))
    potential, history = torch.zeros_like(current), torch.zeros_like(current, dtype=torch.uint8)
    injected = propagation.sources, queries(source_current)
    for t, share in enumerate(dynamics.shares):
        if t:
            sent = EdgeSpikes(history.flatten(1), delays, weights)
            messages = arriving(graph, sent, edge_weight, current.dtype).unflatten(1, shape)
            x = propagation.synapses(messages, propagation.last(history, current))
            potential = dynamics.charge(x, potential, history, current, keep=potentials is not None)
        potential.index_put_(injected, source_current, accumulate=True)
        history = dynamics.fire(potential, history, share, read)
        if potentials is not None:
            potentials.append(potential)
        if histories is not None:
            histories.append(history.flatten(1))
    return read
