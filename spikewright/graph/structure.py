"""A relational graph, laid out once for messages in both directions: from pairs to targets, and back."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from spikewright.errors import ConfigError


@dataclass(frozen=True)
class RelationalGraph:
    r"""Edges, and the distinct pairs (source, relation) among them.

    What an edge transmits depends on its source and its relation only, so all edges of a pair transmit the same.  Edges
    are in the order of their pairs, pairs in the order of their sources.

    Attributes:
        nodes: Number of nodes N.
        relations: Number of relations R, inverse ones included.
        sources: Source of each pair, `[P]`.
        kinds: Relation of each pair, `[P]`.
        pairs: Pair of each edge, `[E]`, ascending.
        targets: Target of each edge, `[E]`.
        arrivals: Number of targets that edges may have; N but in `one_each`.
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
        """Lay out the graph of facts (head, relation, tail), `[any, 3]`, each once in each direction.

        The edge back has the relation `relation + relations`.

        Raises:
            ConfigError: A node or relation is out of range.
        """
        _check(facts, nodes, relations)
        back = torch.stack([facts[:, 2], facts[:, 1] + relations, facts[:, 0]], 1)
        return cls.of_edges(torch.cat([facts, back]), nodes, 2 * relations)

    @classmethod
    def undirected(cls, facts: Tensor, nodes: int) -> "RelationalGraph":
        """Lay out the graph of one relation whose edges go both ways, with one loop at every node."""
        _check(facts, nodes, 1)
        back, loops = facts.flip(1).clone(), torch.arange(nodes)
        back[:, 1] = 0
        own = torch.stack([loops, torch.zeros_like(loops), loops], 1)
        return cls.of_edges(torch.cat([facts, back, own]), nodes, 1)

    @classmethod
    def of_edges(cls, edges: Tensor, nodes: int, relations: int) -> "RelationalGraph":
        """Lay out exactly these edges (source, relation, target), `[E, 3]`."""
        _check(edges, nodes, relations)
        keys = edges[:, 0] * relations + edges[:, 1]
        order = torch.argsort(keys * nodes + edges[:, 2], stable=True)
        found, pairs = torch.unique_consecutive(keys[order], return_inverse=True)
        return cls(nodes, relations, found // relations, found % relations, pairs, edges[order, 2], nodes)

    def to(self, device: torch.device | str) -> "RelationalGraph":
        """Return the graph with its tensors there."""
        names = ("sources", "kinds", "pairs", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @cached_property
    def edges(self) -> Tensor:
        """Every edge as (source, relation, target), `[E, 3]`."""
        return torch.stack([self.sources[self.pairs], self.kinds[self.pairs], self.targets], 1)

    @cached_property
    def by_target(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The edges in the order of their targets.

        Where those of each target start, `[arrivals + 1]`, then the source and the relation of each and which edge it
        is, `[E]`.
        """
        order = torch.argsort(self.targets, stable=True)
        pairs = self.pairs[order]
        return _starts(self.targets, self.arrivals), self.sources[pairs], self.kinds[pairs], order

    @cached_property
    def pairs_by_target(self) -> Tensor:
        """Pair of each edge, `[E]`, the edges in the order of their targets."""
        return self.pairs[self.by_target[3]]

    @cached_property
    def by_pair(self) -> Tensor:
        """Where the edges of each pair start, `[P + 1]`."""
        return _starts(self.pairs, len(self.sources))

    @cached_property
    def by_source(self) -> Tensor:
        """Where the pairs of each node start, `[N + 1]`."""
        return _starts(self.sources, self.nodes)

    @cached_property
    def one_each(self) -> "RelationalGraph":
        """The graph in which every pair has one edge, to a target of its own."""
        each = torch.arange(len(self.sources), device=self.sources.device)
        return replace(self, pairs=each, targets=each, arrivals=len(each))

    @cached_property
    def degrees(self) -> Tensor:
        """Number of edges that end at each target, `[arrivals]`."""
        return torch.bincount(self.targets, minlength=self.arrivals)

    def without(self, facts: Tensor, between: bool = False) -> Tensor:
        """Return a weight for every edge, `[E]`: 0 for edges of these facts in either direction, 1 for all others.

        Args:
            facts: `[any, 3]`, with relations below R / 2, or all 0 if there is but one.
            between: Take out every edge between the two nodes of a fact, whatever its relation.
        """
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
    """Return where each of so many groups starts, and where the last one ends, once its members are in order."""
    counts = torch.bincount(groups, minlength=number)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _check(edges: Tensor, nodes: int, relations: int) -> None:
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
