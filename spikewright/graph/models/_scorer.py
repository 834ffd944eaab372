"""What models of link prediction share: a vector for the query, features of every node, and a score for both."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.graph.structure import RelationalGraph


class LinkScorer(nn.Module, ABC):
    """Scores how well (source, relation, node) completes a graph, for queries (source, relation) and any nodes.

    Args:
        relations: Number of relations R, inverse ones included.
        width: Channels D of a node and of a query.
        symmetric: Score a pair of nodes from both ends, and take the mean of what is found.
    """

    def __init__(self, relations: int, width: int, symmetric: bool) -> None:
        super().__init__()
        if relations < 1 or width < 1:
            raise ConfigError(
                f"A model was query for with {relations} relations and {width} channels; it needs 1 or more."
            )
        self.relations, self.width, self.symmetric = relations, width, symmetric
        self.query = nn.Embedding(relations, width)
        self.readout = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))

    @abstractmethod
    def query_vector(self, relations: Tensor) -> Tensor:
        """Return the vector of each query, `[B, D]`, for relations `[B]`."""

    @abstractmethod
    def node_features(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> Tensor:
        """Return what each query finds at every node, `[N, B, D]`.

        Args:
            graph: To reason over.
            sources: Where each query starts, `[B]`.
            query: The vector of each query, `[B, D]`.
            edge_weight: A weight for every edge, `[E]`; `None` for 1.
        """

    def forward(
        self,
        graph: RelationalGraph,
        sources: Tensor,
        relations: Tensor,
        candidates: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Return scores, the log-odds that (source, relation, candidate) is true.

        Args:
            graph: To reason over.
            sources: `[B]`.
            relations: `[B]`; `relation + R / 2` asks in the inverse direction.
            candidates: Nodes to score for each query, `[B, C]`; `None` scores all.
            edge_weight: A weight for every edge, `[E]`; `None` for 1.

        Returns:
            `[B, C]`.

        Raises:
            ConfigError: The graph has other relations than the model.
        """
        if graph.relations != self.relations:
            raise ConfigError(
                f"The graph has {graph.relations} relations (inverse ones included), the model {self.relations}. A "
                "model reasons over graphs with the relations that it was made for; build it for this graph."
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
