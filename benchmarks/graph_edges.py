"""Spikes over a graph with one message for every edge, query and channel: what `spikewright.graph` is compared with.

Every message is found by an index of its own into the spikes of the last steps, which is kept until the gradient has
gone back the same way: 8 bytes for each of E x B x D messages in every step.  So works the published implementation of

Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024, arXiv 2405.16851.

It measures nothing by itself: python benchmarks/graph_step.py times it beside the package.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.graph.forward import Propagation


def indices(edges: Tensor, delays: Tensor, nodes: int, longest: int) -> Tensor:
    """Return where each message is found in a window `[longest + 1, N, columns]` of steps, `[E, columns]` int64.

    Args:
        edges: (source, relation, target), `[E, 3]`.
        delays: Of each relation, `[R, columns]`, whole numbers.
        nodes: Number N.
        longest: The longest delay, which leads to the first step of the window; none leads to the last one.
    """
    return (longest - delays.long()[edges[:, 1]]) * nodes + edges[:, :1]


def arriving(edges: Tensor, where: Tensor, window: Tensor, kept: Tensor) -> Tensor:
    """Return the sum of the messages that arrive at each node, `[N, columns]`; edges have weights `kept`, `[E]`."""
    messages = window.flatten(0, 1).gather(0, where).mul_(kept[:, None])
    return torch.zeros_like(window[0]).index_add_(0, edges[:, 2], messages)


def credit(
    edges: Tensor, where: Tensor, traces: Tensor, kept: Tensor, grad: Tensor, relations: int
) -> tuple[Tensor, Tensor]:
    """Return what a gradient of `arriving` gives the spikes of the window, and delays, `[R, columns]`.

    Args:
        edges: As for `indices`.
        where: What `indices` returned.
        traces: What each spike of the window gives the gradient of its delay, in the shape of the window.
        kept: As for `arriving`.
        grad: `[N, columns]`.
        relations: Number R.
    """
    back = grad[edges[:, 2]].mul_(kept[:, None])
    to_window = torch.zeros_like(traces).flatten(0, 1).scatter_add_(0, where, back).view_as(traces)
    back.mul_(traces.flatten(0, 1).gather(0, where))
    return to_window, back.new_zeros(relations, back.shape[1]).index_add_(0, edges[:, 1], back)


class _Arriving(torch.autograd.Function):
    """The two as one function of delays, and of the spikes of the last steps, `[N, columns]`, the last one first."""

    @staticmethod
    def forward(
        ctx: Any, edges: Tensor, kept: Tensor, window: Tensor, traces: Tensor, delays: Tensor, *recent: Tensor
    ) -> Tensor:
        where = indices(edges, delays.round(), window.shape[1], len(window) - 1)
        ctx.save_for_backward(edges, kept, traces, where)
        ctx.relations, ctx.steps = len(delays), len(recent)
        return arriving(edges, where, window, kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        edges, kept, traces, where = ctx.saved_tensors
        to_window, to_delays = credit(edges, where, traces, kept, grads[0], ctx.relations)
        return None, None, None, None, to_delays, *to_window.flip(0)[: ctx.steps].unbind()


def propagate(
    propagation: Propagation,
    drive: Tensor,
    delays: Tensor,
    weights: Tensor | None = None,
    kept: Tensor | None = None,
    parameters: Sequence[nn.Parameter] = (),
) -> Tensor:
    """Run the network as `spikewright.graph.propagation.propagate` does, neurons left to autograd; without weights."""
    assert weights is None and propagation.dynamics.delay_grad != "reference"
    edges, dynamics, reach = propagation.graph.edges, propagation.dynamics, propagation.longest + 1
    kept = drive.new_ones(len(edges)) if kept is None else kept.to(drive.dtype)
    current = membrane = read = drive.new_zeros(propagation.graph.nodes, *drive.shape)
    injected = current.index_put((propagation.sources, torch.arange(len(drive))), drive, accumulate=True)
    here, before = dynamics.slopes
    silent = torch.zeros_like(current).flatten(1)
    spikes: list[Tensor] = []
    sent, traces = [silent] * reach, [silent] * reach  # steps before the first one
    for t, share in enumerate(dynamics.shares):
        if t:
            recent = [s.flatten(1) for s in spikes[: -reach - 1 : -1]]
            past = torch.stack(sent[-reach:]), torch.stack(traces[-reach:])
            x = _Arriving.apply(edges, kept, *past, delays.flatten(1), *recent).view_as(current)  # type: ignore[union-attr]
            current = dynamics.rho * current + dynamics.gain * propagation.synapses(
                x, spikes[-1] if propagation.self_loops else None
            )
            membrane = dynamics.rho * membrane + current
        membrane = membrane + injected
        spikes.append(dynamics.surrogate(membrane - dynamics.threshold))
        membrane = membrane * (1 - spikes[-1])
        read = read + share * spikes[-1]
        sent.append(spikes[-1].detach().flatten(1))
        traces.append(here * sent[-1] + before * sent[-2])
    return read


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit("graph_edges only holds what graph_step compares. Run python benchmarks/graph_step.py.")
