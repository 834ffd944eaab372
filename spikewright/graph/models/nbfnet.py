"""The neural Bellman-Ford network, the non-spiking baseline."""

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_choice, check_counts, check_flag
from spikewright.graph.messages import products
from spikewright.graph.models._by_relation import ByRelation
from spikewright.graph.models._scorer import LinkScorer
from spikewright.graph.models.aggregation import FEATURES, Aggregate, principal
from spikewright.graph.structure import RelationalGraph


class NBFNet(LinkScorer):
    r"""Neural Bellman-Ford network: link prediction by message passing from the source node, without spikes.

    With the boundary :math:`h^0_v` = the query vector q at the source and 0 elsewhere, layer l computes

    .. math::
        a_v &= \mathrm{agg}\big( \{ h^l_u \odot w^l_r(q) : (u, r, v) \} \cup \{ h^0_v \} \big) \\
        h^{l+1}_v &= h^l_v + \mathrm{ReLU}(\mathrm{LN}(W^l\, [h^l_v;\ a_v])) \\
        score(v) &= \mathrm{MLP}([h^L_v;\ q]).

    **Cost**: training keeps the activations of all L layers, `O(L N B D)` with "sum" and `O(L (P + 12 N) B D)` with
    "pna" for P distinct pairs (source, relation). Time is `O(L E B D)` for E edges, plus the linear maps.

    Args:
        relations: Number of relations R of the graph, inverse ones included, from 1 to 10**6.
        width: Channels D per node and query, from 1 to 10**6. Default: 32.
        layers: Number of layers L, the length of the longest path seen, from 1 to 1000. Default: 6.
        dependent: True makes the weights of relations a linear function of the query vector, False a parameter per
            relation. Default: True.
        aggregate: "sum", or "pna" (mean, maximum, minimum and standard deviation of messages). Default: "pna".
        symmetric: True averages the node features of a pair over both directions, one run per candidate.
            Default: False.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Zhu et al., Neural Bellman-Ford Networks: A General Graph Neural Network Framework for Link Prediction, NeurIPS
        2021, arXiv 2106.06935.

    >>> import torch
    >>> from spikewright.graph import NBFNet
    >>> from spikewright.graph import RelationalGraph
    >>> graph = RelationalGraph.of(torch.tensor([[0, 0, 1], [1, 0, 2]]), nodes=3, relations=1)
    >>> NBFNet(graph.relations, width=8)(graph, torch.tensor([0]), torch.tensor([0])).shape
    torch.Size([1, 3])
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
        check_counts("NBFNet", most=1000, layers=layers)
        check_flag("NBFNet", dependent=dependent)
        check_choice("NBFNet", "aggregate", aggregate, ("sum", "pna"))
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
