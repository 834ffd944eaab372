"""How messages become the input of a node: a sum, or principal neighbourhood aggregation."""

import torch
from torch import Tensor

from spikewright.graph.structure import RelationalGraph

FEATURES = 12
"""Of principal neighbourhood aggregation, for each channel."""


def principal(
    graph: RelationalGraph, messages: Tensor, kept: Tensor | None, boundary: Tensor | None = None
) -> Tensor:
    """Return mean, maximum, minimum and deviation of what arrives, each times 1, a scale and its inverse.

    The scale of a node is the logarithm of its number of edges, over the mean of that.

    Args:
        graph: Whose edges end at nodes.
        messages: Of every pair, `[P, B, D]`.
        kept: 1 for every edge that is there and 0 for others, `[E]`; `None` for 1.
        boundary: One more message to each node, `[N, B, D]`; `None` counts as one that is 0 in means only.

    Returns:
        `[N, B, 12 D]`.

    Reference:
        Corso et al., Principal Neighbourhood Aggregation for Graph Nets, NeurIPS 2020, arXiv 2004.05718.
    """
    pairs, targets, shape = graph.pairs, graph.targets, (graph.nodes, *messages.shape[1:])
    if kept is not None:
        pairs, targets = pairs[kept != 0], targets[kept != 0]
    sent = messages[pairs]
    if kept is not None and kept.requires_grad:
        sent = sent * kept[kept != 0, None, None]
    degree = (torch.bincount(targets, minlength=graph.nodes) + 1).to(messages.dtype)[:, None, None]
    if boundary is None:
        start, include = messages.new_zeros(shape), False
    else:
        start, include = boundary, True
    mean = start.index_add(0, targets, sent) / degree
    square = start.square().index_add(0, targets, sent.square()) / degree
    deviation = (square - mean.square()).clamp(min=1e-6).sqrt()
    most = start.index_reduce(0, targets, sent, "amax", include_self=include)
    least = start.index_reduce(0, targets, sent, "amin", include_self=include)
    found = torch.stack([mean, most, least, deviation], -1).flatten(-2)
    scale = degree.log()
    scale = scale / scale.mean()
    return torch.stack([found, found * scale, found / scale.clamp(min=1e-2)], -1).flatten(-2)
