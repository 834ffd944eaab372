"""The base class of link-prediction models: query vector, node features and readout."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from spikewright._util.ranges import MOST, check_counts, check_flag
from spikewright.errors import ConfigError
from spikewright.graph.structure import RelationalGraph


class LinkScorer(nn.Module, ABC):
    r"""Base class of models that score how likely (source, relation, node) is true, for all nodes at once.

    .. math:: score(v) = \mathrm{MLP}([h_v;\ q])

    with q the query vector, h the features of the nodes, and a two-layer perceptron with ReLU. Subclasses implement
    `query_vector` and `node_features`.

    Args:
        relations: Number of relations R of the graph, inverse ones included, from 1 to 10**6.
        width: Channels D of a node and of a query vector, from 1 to 10**6.
        symmetric: True computes node features from the source and from the candidate, and averages them before the
            readout; needs one run per candidate.

    Raises:
        ConfigError: A number is below 1.
    """

    def __init__(self, relations: int, width: int, symmetric: bool) -> None:
        super().__init__()
        check_counts(type(self).__name__, most=MOST, relations=relations, width=width)
        check_flag(type(self).__name__, symmetric=symmetric)
        self.relations, self.width, self.symmetric = relations, width, symmetric
        self.query = nn.Embedding(relations, width)
        self.readout = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))

    @abstractmethod
    def query_vector(self, relations: Tensor) -> Tensor:
        """Return the vector of each query, `[B, D]`.

        Args:
            relations: Relation of each query, int64 `[B]`.
        """

    @abstractmethod
    def node_features(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> Tensor:
        """Return the features of every node for each query, `[N, B, D]`.

        Args:
            graph: `RelationalGraph` to pass messages on.
            sources: Source node of each query, int64 `[B]`.
            query: Query vectors. Shape `[B, D]`.
            edge_weight: Weight of each edge. Shape `[E]`. `None` for 1.
        """

    def forward(
        self,
        graph: RelationalGraph,
        sources: Tensor,
        relations: Tensor,
        candidates: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Return scores `[B, C]`, the log-odds that (source, relation, candidate) is true.

        Args:
            graph: `RelationalGraph` with N nodes.
            sources: Source node of each query, int64 `[B]`.
            relations: Relation of each query, int64 `[B]`; `relation + R / 2` is the inverse relation.
            candidates: Nodes to score for each query, int64 `[B, C]`. Default: None, all N nodes.
            edge_weight: Weight of each edge, such as `graph.without(facts)`. Shape `[E]`. Default: None, 1.

        Raises:
            ConfigError: The graph has another number of relations than the model.
        """
        if graph.relations != self.relations:
            raise ConfigError(
                f"The graph has {graph.relations} relations (inverse ones included), the model {self.relations}. A "
                f"model has parameters for each relation. Build it with relations={graph.relations}."
            )
        query = self.query_vector(relations)
        found = self.node_features(graph, sources, query, edge_weight)
        found = found.transpose(0, 1) if candidates is None else found[candidates, _rows(candidates)]
        if self.symmetric:
            found = (found + self._from_the_other_end(graph, sources, query, candidates, edge_weight)) / 2
        return self.readout(torch.cat([found, query[:, None].expand_as(found)], -1)).squeeze(-1)

    def _from_the_other_end(
        self,
        graph: RelationalGraph,
        sources: Tensor,
        query: Tensor,
        candidates: Tensor | None,
        edge_weight: Tensor | None,
    ) -> Tensor:
        if candidates is None:
            candidates = torch.arange(graph.nodes, device=sources.device).expand(len(sources), -1)
        each = _rows(candidates).expand_as(candidates).flatten()
        back = self.node_features(graph, candidates.flatten(), query[each], edge_weight)
        return back[sources[each], torch.arange(len(each), device=each.device)].view(*candidates.shape, -1)


def _rows(candidates: Tensor) -> Tensor:
    return torch.arange(len(candidates), device=candidates.device)[:, None]
