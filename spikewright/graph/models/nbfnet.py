"""The neural Bellman-Ford network, without spikes: what reasoning over paths is compared with."""

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.graph.messages import products
from spikewright.graph.models._by_relation import ByRelation
from spikewright.graph.models._scorer import LinkScorer
from spikewright.graph.models.aggregation import FEATURES, Aggregate, principal
from spikewright.graph.structure import RelationalGraph


class NBFNet(LinkScorer):
    r"""Layers of messages along edges, each times a weight of its relation; without spikes.

    The boundary :math:`h^0` is the query at its source.

    .. math::
        h^{l+1} = h^l + \mathrm{ReLU}(\mathrm{LN}(W^l [h^l;\ \mathrm{agg}(h^l \odot w^l_r,\ h^0)]))

    Args:
        relations: Number of relations R, inverse ones included.
        width: Channels D.
        layers: Number of layers, the length of paths that are seen.
        dependent: Weights of relations depend on the query; else on the relation alone.
        aggregate: "sum", or "pna" (mean, maximum, minimum and deviation).
        symmetric: Score a pair of nodes from both ends.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Zhu et al., Neural Bellman-Ford Networks: A General Graph Neural Network Framework for Link Prediction,
        NeurIPS 2021, arXiv 2106.06935.
    """

    def __init__(
        self,
        relations: int,
        *,
        width: int = 32,
        layers: int = 6,
        dependent: bool = True,
        aggregate: Aggregate = "pna",
        symmetric: bool = False,
    ) -> None:
        super().__init__(relations, width, symmetric)
        if layers < 1 or aggregate not in ("sum", "pna"):
            raise ConfigError(
                f"NBFNet(layers={layers}, aggregate={aggregate!r}): there is at least one layer, and messages are "
                "aggregated by 'sum' or 'pna'."
            )
        self.aggregate = aggregate
        inputs = ((FEATURES if aggregate == "pna" else 1) + 1) * width
        self.weights = nn.ModuleList([ByRelation(relations, width, dependent) for _ in range(layers)])
        self.updates = nn.ModuleList(
            [nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU()) for _ in range(layers)]
        )

    def query_vector(self, relations: Tensor) -> Tensor:
        return self.query(relations)

    def node_features(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> Tensor:
        queries = torch.arange(len(query), device=query.device)
        boundary = query.new_zeros(graph.nodes, *query.shape).index_put((sources, queries), query)
        hidden = boundary
        for weight, update in zip(self.weights, self.updates, strict=True):
            arrived = self._aggregated(graph, hidden, weight(query), boundary, edge_weight)
            hidden = hidden + update(torch.cat([hidden, arrived], -1))
        return hidden

    def _aggregated(
        self, graph: RelationalGraph, hidden: Tensor, weight: Tensor, boundary: Tensor, edge_weight: Tensor | None
    ) -> Tensor:
        shape, pna = hidden.shape[1:], self.aggregate == "pna"
        to = graph.one_each if pna else graph
        sent = products(to, hidden.flatten(1), weight.flatten(1), None if pna else edge_weight).unflatten(1, shape)
        return principal(graph, sent, edge_weight, boundary) if pna else sent + boundary
