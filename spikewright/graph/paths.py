"""Explanation of a score by the paths between two entities."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.ranges import MOST, check_counts, check_instance, check_sizes
from spikewright._util.trial import evaluating
from spikewright.errors import ConfigError, InputError
from spikewright.graph._evaluate import check_scored, graph_of
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.models import GRSNN, LinkScorer
from spikewright.graph.structure import RelationalGraph
from spikewright.surrogate import Surrogate

INVERSE = "^-1"
"""Suffix of a relation name for the inverse relation, from tail to head."""


@dataclass(frozen=True)
class Path:
    """A path from one entity to another.

    Attributes:
        edges: (source, relation, target) names of each edge; `^-1` behind a relation's name marks an edge from tail to
            head.
        weight: Mean over its edges of the gradient of the score with respect to the edge weight.

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
    """Surrogate slope :math:`1/u` for a neuron that fires, with u its membrane potential, and 0 for one that does not.

    An input to a neuron that fires gets the credit of its share of the membrane potential.

    Args:
        threshold: Firing threshold of the membrane, > 0.
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
    r"""Return the paths from head to tail that the score of a fact depends on most, strongest first.

    Every edge e has a weight :math:`w_e = 1`. A path p has the weight
    :math:`\tfrac{1}{|p|} \sum_{e \in p} \partial\, score / \partial w_e`; in a spiking network the gradient sums over
    time steps. The edges of the fact itself are removed. Paths do not visit an entity twice, and paths of weight 0 are
    left out. The model runs in evaluation mode; its mode, surrogate and gradients are restored.

    **Exact when**: the path has up to three edges and `beams` is at least `top`; longer paths are found by beam search.

    **Cost**: one forward and backward pass, then a beam search of at most `beams` paths per entity and length.

    Args:
        model: `LinkScorer`; a `GRSNN` must have `aggregate="sum"`.
        data: `GraphData` that the split belongs to.
        split: `GraphSplit` whose facts are the edges.
        fact: Numbers of head, relation and tail, each at least 0, true or not; relation `r + len(data.relations)` is
            the inverse of r.
        beams: Paths kept per entity during the search, from 1 to 10**6. Default: 10.
        length: Largest number of edges of a path, from 1 to 10**6. Default: 4.
        top: Largest number of paths returned, at least 1. Default: 10.
        surrogate: `Surrogate` of the spikes in place of that of training. Default: None, `WhereFired`, as in the paper.

    Raises:
        ConfigError: A number is out of its range, or the model is a GRSNN with `aggregate="pna"`.
        InputError: The fact names an entity or a relation that does not exist.

    Reference:
        Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, arXiv 2106.06935 (edge gradients, beam search); Xiao et
        al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024, arXiv 2405.16851
        (spiking networks).
    """
    check_scored("explain", model, data, split)
    check_counts("explain", most=MOST, beams=beams, length=length)
    check_counts("explain", top=top)
    check_sizes("explain", least=0, most=2**63 - 1, fact=fact)
    if len(fact) != 3:
        raise ConfigError(f"explain(fact={shown(fact)}): a fact is three numbers. Give (head, relation, tail).")
    if surrogate is not None:
        check_instance("explain", "surrogate", surrogate, Surrogate, "sw.surrogate.Sigmoid()")
    if isinstance(model, GRSNN) and model.aggregate != "sum":
        raise ConfigError(
            "explain was called for GRSNN(aggregate='pna'). It takes means and extremes of messages in every step, "
            "and has no gradient with respect to edge weights. Use GRSNN(aggregate='sum'), or NBFNet with either."
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
    """Return the names of all edge relations: with inverse ones, except on a homogeneous graph."""
    return data.relations if data.homogeneous else (*data.relations, *(name + INVERSE for name in data.relations))


def edges_but_own(data: GraphData, graph: RelationalGraph, fact: Sequence[int]) -> Tensor:
    """Return an edge weight `[E]` of 0 for the edges of a fact, in both directions, and 1 for all others.

    Raises:
        InputError: The fact names an entity or a relation that does not exist.
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
    """Replace the surrogate of a spiking model, and restore it afterwards."""
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
        graph: `RelationalGraph` to search.
        weights: Gradient of each edge weight. Shape `[E]`.
        there: True for edges that may be used. Shape `[E]`.
        head: First node of the paths.
        tail: Last node of the paths.
        beams: Paths kept per node, at least 1.
        length: Largest number of edges, at least 1.
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
    """Return all edges out of some nodes: index of the node, and number of the edge."""
    counts = starts[nodes + 1] - starts[nodes]
    rows = torch.repeat_interleave(counts)
    return rows, torch.arange(len(rows)) + (starts[nodes] - counts.cumsum(0) + counts)[rows]


def _best(groups: Tensor, values: Tensor, number: int) -> Tensor:
    """Return the positions of the `number` largest values of each group."""
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    return order[torch.arange(len(order)) - torch.searchsorted(ordered, ordered) < number]
