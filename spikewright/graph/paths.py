"""Why an answer: the paths between two entities that its score depends on most."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikewright._util.trial import evaluating
from spikewright.errors import ConfigError, InputError
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.models import GRSNN, LinkScorer
from spikewright.graph.structure import RelationalGraph
from spikewright.surrogate import Surrogate

INVERSE = "^-1"
"""Behind the name of a relation: the same relation, from tail to head."""


@dataclass(frozen=True)
class Path:
    """Edges from one entity to another, each one starting where the one before ends.

    Attributes:
        edges: Names of source, relation and target of each; a relation that is taken from tail to head has `^-1`
            behind its name.
        weight: Mean over the edges of the gradient of the score with respect to the weight of an edge.

    >>> str(Path((("ann", "mother", "bob"), ("bob", "father^-1", "carl")), 0.5))
    'ann -mother-> bob <-father- carl'
    """

    edges: tuple[tuple[str, str, str], ...]
    weight: float

    def __str__(self) -> str:
        steps = (
            f"<-{relation.removesuffix(INVERSE)}- {target}" if relation.endswith(INVERSE) else f"-{relation}-> {target}"
            for _, relation, target in self.edges
        )
        return " ".join([self.edges[0][0], *steps]) if self.edges else ""


@dataclass(frozen=True)
class WhereFired(Surrogate):
    r"""Slope :math:`1/u` of a neuron that fires, with u its membrane, and 0 of one that does not.

    An input to a neuron that fires is credited with its share of the membrane.

    Args:
        threshold: Of the membrane.
    """

    threshold: float

    def slope(self, x: Tensor) -> Tensor:
        return (x >= 0) / (x.clamp(min=0) + self.threshold)


def explain(
    model: LinkScorer,
    data: GraphData,
    split: GraphSplit,
    fact: Sequence[int],
    *,
    beams: int = 10,
    length: int = 4,
    top: int = 10,
    surrogate: Surrogate | None = None,
) -> list[Path]:
    """Return the paths from head to tail whose edges the score of a fact depends on most, the strongest first.

    Every edge has a weight of 1, and a path the mean of the gradients of the score with respect to those of its edges;
    that of a spiking network sums over all time steps.  The edge of the fact itself is taken out.  A path names no
    entity twice.  Those of weight 0 are left out: the score does not depend on them.  If the head sends no spikes to
    the tail, there are no others.

    Paths are searched from the head, and of those that end at the same entity, `beams` go on: nothing is missed among
    paths of up to three edges if there are as many beams as paths are asked for.

    The model is left as it was, without gradients.

    Args:
        model: What scores.
        data: The graph that the split is of.
        split: Whose facts messages travel along.
        fact: Head, relation and tail as numbers, true or not; `relation + len(data.relations)` asks from tail to head.
        beams: How many paths to each entity are followed.
        length: Most edges of a path.
        top: Most paths to return.
        surrogate: Slope of spikes; `None` for `WhereFired`, as in the paper, in place of the one of training.

    Raises:
        ConfigError: A number is below 1, or the model is a GRSNN that aggregates by "pna".
        InputError: The fact names an entity or a relation that is not there.

    Reference:
        Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, arXiv 2106.06935 (gradients of edges, beam search);
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851 (spikes).
    """
    if min(beams, length, top) < 1:
        raise ConfigError(
            f"Paths were asked for with beams={beams}, length={length}, top={top}, which leaves none. Give 1 or more."
        )
    if isinstance(model, GRSNN) and model.aggregate != "sum":
        raise ConfigError(
            "Paths were asked of GRSNN(aggregate='pna'). It takes means and extremes of messages at every step of a "
            "run, and keeps no gradient of single edges. Take GRSNN(aggregate='sum'), or NBFNet with either."
        )
    graph, device = graph_of(data, split), next(model.parameters()).device
    edge_weight = edges_but_own(data, graph, fact).to(next(model.parameters()).dtype)
    with evaluating(model), _firing_by(model, surrogate), torch.enable_grad():
        weights = edge_weight.to(device).requires_grad_()
        source, relation, target = torch.tensor(fact, device=device)[:, None]
        score = model(graph.to(device), source, relation, target[:, None], weights)
        gradient = torch.autograd.grad(score.sum(), weights)[0].cpu().double()
    found = [path for path in _paths(graph, gradient, edge_weight != 0, fact[0], fact[2], beams, length) if path[0]]
    found.sort(key=lambda path: (-path[0], len(path[1])))
    relations, edges = relation_names(data), graph.edges
    return [
        Path(tuple((split.entities[a], relations[r], split.entities[b]) for a, r, b in edges[path].tolist()), weight)
        for weight, path in found[:top]
    ]


def relation_names(data: GraphData) -> tuple[str, ...]:
    """Return the name of every relation of an edge, inverse ones included unless all edges go both ways anyway."""
    return data.relations if data.homogeneous else (*data.relations, *(name + INVERSE for name in data.relations))


def edges_but_own(data: GraphData, graph: RelationalGraph, fact: Sequence[int]) -> Tensor:
    """Return 1 for every edge of a graph, `[E]`, but 0 for those of a fact, in both directions.

    Raises:
        InputError: The fact names an entity or a relation that is not there.
    """
    head, relation, tail = fact
    if not (0 <= min(fact) and max(head, tail) < graph.nodes and relation < graph.relations):
        raise InputError(
            f"The fact {tuple(fact)} was asked about, but there are {graph.nodes} entities and {graph.relations} "
            "relations, inverse ones included, numbered from 0. Give numbers of head, relation and tail."
        )
    if relation >= len(data.relations):
        head, relation, tail = tail, relation - len(data.relations), head
    return graph.without(torch.tensor([[head, relation, tail]]))


@contextmanager
def _firing_by(model: LinkScorer, surrogate: Surrogate | None) -> Iterator[None]:
    """Give the spikes of a model another slope, if it has spikes, and their own one back afterwards."""
    if not isinstance(model, GRSNN):
        yield
        return
    own = model.dynamics
    try:
        model.dynamics = replace(own, surrogate=WhereFired(own.threshold) if surrogate is None else surrogate)
        yield
    finally:
        model.dynamics = own


def _paths(
    graph: RelationalGraph, weights: Tensor, there: Tensor, head: int, tail: int, beams: int, length: int
) -> Iterator[tuple[float, list[int]]]:
    """Yield mean weight and edges of paths, in no order.

    Args:
        graph: The graph.
        weights: Of every edge, `[E]`.
        there: Which edges may be taken, bool `[E]`.
        head: Where paths start.
        tail: Where they end.
        beams: How many of the paths to one node go on.
        length: Most edges.
    """
    starts, targets = graph.by_pair[graph.by_source], graph.targets
    there = there & (targets != head) & (graph.sources[graph.pairs] != targets)
    ends, total, trails = torch.tensor([head]), weights.new_zeros(1), torch.zeros(1, 0, dtype=torch.int64)
    for taken in range(1, length + 1):
        rows, edges = _onward(starts, ends)
        allowed = there[edges] & (targets[trails][rows] != targets[edges][:, None]).all(1)
        if taken == length:
            allowed &= targets[edges] == tail
        rows, edges = rows[allowed], edges[allowed]
        ends, total, trails = targets[edges], total[rows] + weights[edges], torch.cat([trails[rows], edges[:, None]], 1)
        best = _best(ends, total, beams)
        arrived, others = best[ends[best] == tail], best[ends[best] != tail]
        yield from zip((total[arrived] / taken).tolist(), trails[arrived].tolist(), strict=True)
        ends, total, trails = ends[others], total[others], trails[others]


def _onward(starts: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Return every edge out of each of some nodes: which of the nodes, and which edge."""
    counts = starts[nodes + 1] - starts[nodes]
    rows = torch.repeat_interleave(counts)
    return rows, torch.arange(len(rows)) + (starts[nodes] - counts.cumsum(0) + counts)[rows]


def _best(groups: Tensor, values: Tensor, number: int) -> Tensor:
    """Return where the largest values of each group are, so many of each at most."""
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    return order[torch.arange(len(order)) - torch.searchsorted(ordered, ordered) < number]
