"""The neural Bellman-Ford network again: a loop over queries, layers and edges; autograd for the backward."""

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, relu

Edge = tuple[int, int, int]


def principal(messages: list[list[Tensor]], boundary: Tensor | None) -> Tensor:
    """Mean, maximum, minimum and deviation of what arrives at each node, each times 1, a scale and its inverse.

    `messages` holds for each node a list of `[D]`, and `boundary`, `[N, D]`, is one more for each. Extremes share their
    gradient.
    """
    scales = torch.tensor([float(len(m) + 1) for m in messages], dtype=torch.float64).log()
    scales = scales / scales.mean()
    rows = []
    for node, (arrived, scale) in enumerate(zip(messages, scales.tolist())):
        some = torch.stack(arrived if boundary is None else [*arrived, boundary[node]])
        deviation = ((some**2).mean(0) - some.mean(0) ** 2).clamp(min=1e-6).sqrt()
        four = [some.mean(0), some.amax(0), some.amin(0), deviation]
        rows.append(torch.cat([f * by for by in (1.0, scale, 1 / max(scale, 1e-2)) for f in four]))
    return torch.stack(rows)


def hidden(
    weights: dict[str, Tensor], edges: list[Edge], nodes: int, source: int, query: Tensor, pna: bool, dependent: bool
) -> Tensor:
    """What one query, `[D]`, finds at every node, `[N, D]`, with parameters by name."""
    width = len(query)
    boundary = torch.stack([query if node == source else torch.zeros_like(query) for node in range(nodes)])
    state, layer = boundary, 0
    while f"updates.{layer}.0.weight" in weights:
        table = weights[f"weights.{layer}.of.weight"]
        if dependent:
            table = (table @ query + weights[f"weights.{layer}.of.bias"]).reshape(-1, width)
        messages: list[list[Tensor]] = [[] for _ in range(nodes)]
        for start, kind, end in edges:
            messages[end].append(state[start] * table[kind])
        if pna:
            arrived = principal(messages, boundary)
        else:
            arrived = torch.stack([sum(m, boundary[node]) for node, m in enumerate(messages)])
        linear, norm = ([weights[f"updates.{layer}.{part}.{kind}"] for kind in ("weight", "bias")] for part in (0, 1))
        moved = torch.cat([state, arrived], 1) @ linear[0].T + linear[1]
        state = state + relu(layer_norm(moved, [width], *norm))
        layer += 1
    return state


def score(weights: dict[str, Tensor], found: Tensor, query: Tensor) -> Tensor:
    """The log-odds of every node, `[N]`, from what a query found there."""
    inputs = torch.cat([found, query.expand_as(found)], 1)
    inner = relu(inputs @ weights["readout.0.weight"].T + weights["readout.0.bias"])
    return (inner @ weights["readout.2.weight"].T + weights["readout.2.bias"])[:, 0]


def run(
    weights: dict[str, Tensor],
    edges: list[Edge],
    nodes: int,
    sources: list[int],
    relations: list[int],
    *,
    pna: bool,
    dependent: bool = True,
) -> Tensor:
    """Scores of every node for every query, `[B, N]`."""
    rows = []
    for source, relation in zip(sources, relations):
        query = weights["query.weight"][relation]
        rows.append(score(weights, hidden(weights, edges, nodes, source, query, pna, dependent), query))
    return torch.stack(rows)
