"""Principal neighbourhood aggregation: mean, maximum, minimum and standard deviation of the messages to a node."""

import warnings
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikewright.graph.structure import RelationalGraph
from spikewright.kernels import native

Aggregate = Literal["sum", "pna"]
FEATURES = 12
"""Features of principal neighbourhood aggregation per channel."""


def principal(
    graph: RelationalGraph, messages: Tensor, edge_weight: Tensor | None, boundary: Tensor | None = None
) -> Tensor:
    r"""Return mean, maximum, minimum and standard deviation of the messages to each node, each times 1, s and 1/s.

    The scale of a node with d edges is :math:`s = \ln(d + 1) / \mathrm{mean}(\ln(d + 1))`. Parallel edges are messages
    of their own. The gradient of an extreme is shared evenly among the messages that are equal to it; a node without
    messages has the features 0.

    Args:
        graph: `RelationalGraph` of the edges.
        messages: Message of each pair. Shape `[P, B, D]`.
        edge_weight: 1 for edges that exist and 0 for others. Shape `[E]`. `None` for 1.
        boundary: One more message to each node. Shape `[N, B, D]`. Default: None, none.

    Returns:
        Features `[N, B, 12 D]`.

    **Differs from the reference code** of GRSNN and NBFNet in gradients alone: there one of several equal extremes gets
    all of the gradient; which one depends on the order of the edges and on the device. Sharing is the mean over orders.

    Reference:
        Corso et al., Principal Neighbourhood Aggregation for Graph Nets, NeurIPS 2020, arXiv 2004.05718.
    """
    shape = messages.shape[1:]
    if boundary is not None:  # under autocast one may have half the precision
        dtype = torch.promote_types(messages.dtype, boundary.dtype)
        messages, boundary = messages.to(dtype), boundary.to(dtype)
    start = None if boundary is None else boundary.flatten(1)
    if native.available(messages) and (edge_weight is None or not edge_weight.requires_grad):
        found = _Statistics.apply(messages.flatten(1), start, edge_weight, graph)
    else:
        found = _statistics(messages.flatten(1), start, edge_weight, graph)
    total, square, most, least = (f.unflatten(1, shape) for f in found)
    degree = _degree(graph, edge_weight).to(messages.dtype)[:, None, None]
    count = degree.clamp(min=1) if boundary is None else degree + 1
    mean = total / count
    deviation = (square / count - mean.square()).clamp(min=1e-6).sqrt()
    features = torch.cat([mean, most, least, deviation], -1)
    scale = (degree + 1).log()
    scale = scale / scale.mean().clamp(min=1e-9)  # the mean is 0 in a graph without edges
    return torch.cat([features, features * scale, features / scale.clamp(min=1e-2)], -1)


def _degree(graph: RelationalGraph, edge_weight: Tensor | None) -> Tensor:
    """Return the number of edges to each node whose weight is not 0, `[N]`."""
    if edge_weight is None:
        return graph.degrees
    return torch.bincount(graph.targets[edge_weight != 0], minlength=graph.nodes)


def _statistics(
    sent: Tensor, start: Tensor | None, edge_weight: Tensor | None, graph: RelationalGraph
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sum, sum of squares, maximum and minimum of the messages to each node, `[N, columns]` each."""
    pairs, targets = graph.pairs, graph.targets
    if edge_weight is not None:
        pairs, targets = pairs[edge_weight != 0], targets[edge_weight != 0]
    each = sent[pairs]
    if edge_weight is not None and edge_weight.requires_grad:
        each = each * edge_weight[edge_weight != 0, None]
    before = sent.new_zeros(graph.nodes, sent.shape[1]) if start is None else start
    total, square = before.index_add(0, targets, each), before.square().index_add(0, targets, each.square())
    # Infinities stand for no message: autograd takes what is reduced into for an extreme, even if it is left out.
    lowest, highest = (before, before) if start is not None else (before - torch.inf, before + torch.inf)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="index_reduce")
        most = lowest.index_reduce(0, targets, each, "amax")
        least = highest.index_reduce(0, targets, each, "amin")
    if start is None:
        empty = (_degree(graph, edge_weight) == 0)[:, None]
        most, least = most.masked_fill(empty, 0.0), least.masked_fill(empty, 0.0)
    return total, square, most, least


class _Statistics(torch.autograd.Function):
    """`_statistics` with compiled kernels."""

    @staticmethod
    def forward(
        ctx: Any, sent: Tensor, start: Tensor | None, edge_weight: Tensor | None, graph: RelationalGraph
    ) -> tuple[Tensor, ...]:
        starts, _, _, order = graph.by_target
        sent, start = sent.contiguous(), None if start is None else start.contiguous()
        edge_weight = None if edge_weight is None else edge_weight.to(sent.dtype)[order]
        size = graph.nodes, sent.shape[1]
        found = [sent.new_empty(size) for _ in range(4)]
        many = [torch.empty(size, dtype=torch.int32) for _ in range(2)]
        ctx.layout = graph.nodes, starts, graph.pairs_by_target, edge_weight, sent.shape[1]
        native.invoke("statistics", sent.dtype, *ctx.layout, sent, start, *found, *many)
        ctx.save_for_backward(sent, start, *found[2:], *many)
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        sent, start, top, low, *many = ctx.saved_tensors
        total, square = (g.contiguous() for g in grads[:2])
        most, least = (g / number for g, number in zip(grads[2:], many, strict=True))
        back, to_start = torch.zeros_like(sent), None
        native.invoke("statistics_back", sent.dtype, *ctx.layout, sent, top, low, total, square, most, least, back)
        if start is not None:
            to_start = total + 2 * start * square + most * (start == top) + least * (start == low)
        return back, to_start, None, None
