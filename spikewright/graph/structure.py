"""A relational graph in the layout of message passing."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_counts
from spikewright.errors import ConfigError


@dataclass(frozen=True)
class RelationalGraph:
    """Edges of a graph, and the distinct pairs (source, relation) among them.

    All edges of a pair carry the same message, which is computed once. Edges are sorted by pair, pairs by source. Build
    one with `of`, `undirected` or `of_edges`.

    Attributes:
        nodes: Number of nodes N, at least 1.
        relations: Number of relations R, inverse ones included, at least 1.
        sources: Source node of each pair, int64 `[P]`.
        kinds: Relation of each pair, int64 `[P]`.
        pairs: Pair of each edge, ascending, int64 `[E]`.
        targets: Target node of each edge, int64 `[E]`.
        arrivals: Number of message targets, at least 1: N, or P for `one_each`.

    >>> import torch
    >>> from spikewright.graph import RelationalGraph
    >>> graph = RelationalGraph.of(torch.tensor([[0, 0, 1], [0, 0, 2]]), nodes=3, relations=1)
    >>> graph.relations, graph.edges.tolist()
    (2, [[0, 0, 1], [0, 0, 2], [1, 1, 0], [2, 1, 0]])
    """

    nodes: int
    relations: int
    sources: Tensor
    kinds: Tensor
    pairs: Tensor
    targets: Tensor
    arrivals: int

    @classmethod
    def of(cls, facts: Tensor, nodes: int, relations: int) -> "RelationalGraph":
        """Return the graph of facts, each as an edge in both directions; the reverse edge has the relation
        `relation + relations`.

        Args:
            facts: (head, relation, tail), int64 `[any, 3]`.
            nodes: Number of nodes, at least 1.
            relations: Number of relations without inverse ones, at least 1.

        Raises:
            ConfigError: The facts are not int64 `[any, 3]`, or a node or relation is out of range.
        """
        _check(facts, nodes, relations)
        back = torch.stack([facts[:, 2], facts[:, 1] + relations, facts[:, 0]], 1)
        return cls.of_edges(torch.cat([facts, back]), nodes, 2 * relations)

    @classmethod
    def undirected(cls, facts: Tensor, nodes: int) -> "RelationalGraph":
        """Return the graph of one relation whose edges go both ways, with one self-loop per node.

        Args:
            facts: (head, 0, tail), int64 `[any, 3]`.
            nodes: Number of nodes, at least 1.

        Raises:
            ConfigError: The facts are not int64 `[any, 3]`, or a node or relation is out of range.
        """
        _check(facts, nodes, 1)
        back, loops = facts.flip(1).clone(), torch.arange(nodes)
        back[:, 1] = 0
        own = torch.stack([loops, torch.zeros_like(loops), loops], 1)
        return cls.of_edges(torch.cat([facts, back, own]), nodes, 1)

    @classmethod
    def of_edges(cls, edges: Tensor, nodes: int, relations: int) -> "RelationalGraph":
        """Return the graph of exactly these edges.

        Args:
            edges: (source, relation, target), int64 `[E, 3]`.
            nodes: Number of nodes, at least 1.
            relations: Number of relations, at least 1.

        Raises:
            ConfigError: The edges are not int64 `[E, 3]`, or a node or relation is out of range.
        """
        _check(edges, nodes, relations)
        keys = edges[:, 0] * relations + edges[:, 1]
        order = torch.argsort(keys * nodes + edges[:, 2], stable=True)
        found, pairs = torch.unique_consecutive(keys[order], return_inverse=True)
        return cls(nodes, relations, found // relations, found % relations, pairs, edges[order, 2], nodes)

    def to(self, device: torch.device | str) -> "RelationalGraph":
        """Return the graph with its tensors on a device."""
        names = ("sources", "kinds", "pairs", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @cached_property
    def edges(self) -> Tensor:
        """Edges as (source, relation, target), int64 `[E, 3]`."""
        return torch.stack([self.sources[self.pairs], self.kinds[self.pairs], self.targets], 1)

    @cached_property
    def by_target(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The edges sorted by target.

        Start of each target's edges, `[arrivals + 1]`; then source, relation and number of each edge, `[E]`.
        """
        order = torch.argsort(self.targets, stable=True)
        pairs = self.pairs[order]
        return _starts(self.targets, self.arrivals), self.sources[pairs], self.kinds[pairs], order

    @cached_property
    def pairs_by_target(self) -> Tensor:
        """Pair of each edge, `[E]`, with the edges sorted by target."""
        return self.pairs[self.by_target[3]]

    @cached_property
    def by_pair(self) -> Tensor:
        """Start of each pair's edges, `[P + 1]`."""
        return _starts(self.pairs, len(self.sources))

    @cached_property
    def by_source(self) -> Tensor:
        """Start of each node's pairs, `[N + 1]`."""
        return _starts(self.sources, self.nodes)

    @cached_property
    def one_each(self) -> "RelationalGraph":
        """The graph with one edge per pair, each to a target of its own."""
        each = torch.arange(len(self.sources), device=self.sources.device)
        return replace(self, pairs=each, targets=each, arrivals=len(each))

    @cached_property
    def degrees(self) -> Tensor:
        """Number of edges that end at each target, `[arrivals]`."""
        return torch.bincount(self.targets, minlength=self.arrivals)

    def without(self, facts: Tensor, between: bool = False) -> Tensor:
        """Return an edge weight `[E]` of 0 for the edges of some facts, in both directions, and 1 for all others.

        Args:
            facts: (head, relation, tail) with relations below R / 2, or 0 on an undirected graph. Shape `[any, 3]`.
            between: True removes every edge between the two nodes of a fact, whatever its relation. Default: False.
        """
        _check(facts, self.nodes, self.relations)
        edges, inverse = self.edges, self.relations // 2
        heads, kinds, tails = facts.unbind(1)
        if between:
            removed = torch.cat([heads * self.nodes + tails, tails * self.nodes + heads])
            keys = edges[:, 0] * self.nodes + edges[:, 2]
        else:
            there = (heads * self.relations + kinds) * self.nodes + tails
            back = (tails * self.relations + kinds + inverse) * self.nodes + heads
            removed = torch.cat([there, back])
            keys = (edges[:, 0] * self.relations + edges[:, 1]) * self.nodes + edges[:, 2]
        return (~torch.isin(keys, removed)).to(torch.get_default_dtype())


def _starts(groups: Tensor, number: int) -> Tensor:
    """Return the start of each group in the sorted order of its members, and the end of the last, `[number + 1]`."""
    counts = torch.bincount(groups, minlength=number)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _check(edges: Tensor, nodes: int, relations: int) -> None:
    check_tensor("facts", edges, "int64 [any, 3]")
    check_counts("RelationalGraph", nodes=nodes, relations=relations)
    if edges.ndim != 2 or edges.shape[1] != 3 or edges.dtype != torch.int64:
        raise ConfigError(
            f"A graph was asked for from {edges.dtype} of shape {list(edges.shape)}. Facts are int64, [any, 3]: head, "
            "relation, tail."
        )
    if len(edges):
        low, high = edges.amin(0).tolist(), edges.amax(0).tolist()
        if min(low) < 0 or max(high[0], high[2]) >= nodes or high[1] >= relations:
            raise ConfigError(
                f"The facts name nodes up to {max(high[0], high[2])} and relations up to {high[1]}, from {min(low)} "
                f"on; the graph has {nodes} nodes and {relations} relations, numbered from 0."
            )
