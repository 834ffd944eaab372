"""The graph reasoning spiking network (GRSNN), with synaptic delays that depend on relation and query."""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from spikewright._util.ranges import (
    MOST,
    check_choice,
    check_count,
    check_flag,
    check_instance,
    check_numbers,
    check_within,
)
from spikewright.graph.dynamics import AlphaDynamics
from spikewright.graph.forward import LONGEST, Propagation
from spikewright.graph.models._by_relation import ByRelation
from spikewright.graph.models._scorer import LinkScorer
from spikewright.graph.models.aggregation import FEATURES, Aggregate, principal
from spikewright.graph.propagation import propagate, spikes
from spikewright.graph.structure import RelationalGraph
from spikewright.kernels.delays import DelayGrad
from spikewright.surrogate import Sigmoid, Surrogate

PLUS = {"weighted": True, "self_loops": True, "layer_norm": True}
"""Arguments of GRSNN+."""


class GRSNN(LinkScorer):
    r"""Graph reasoning spiking neural network: link prediction by spike times with synaptic delays.

    Each node v has D spiking neurons per query. With the query vector :math:`\hat q = (q_r + 1)\, V_{th} / 2` as a
    constant current I into the source node and 0 elsewhere, the network runs for T steps from rest,

    .. math::
        \delta_r &= \mathrm{round}(\beta\, \sigma(P_r \hat q)) \\
        x_{v,t} &= \kappa \Big( W \sum_{(u, r, v)} s_{u,\, t-1-\delta_r} + b \Big) \\
        c_t &= \rho\, c_{t-1} + \tfrac{e}{\tau}\, x_t, \qquad u_t = \rho\, (1 - s_{t-1})\, u_{t-1} + c_t + I \\
        s_t &= \Theta(u_t - V_{th}), \qquad h_v = \sum_t \gamma^t s_{v,t} \Big/ \sum_t \gamma^t \\
        score(v) &= \mathrm{MLP}([h_v;\ \hat q]),

    with :math:`\rho = e^{-1/\tau}`. An edge of relation r takes :math:`\delta_r + 1` steps, so nodes on short paths
    from the source fire early and often. GRSNN+ (`GRSNN.plus`) adds a weight per relation to messages, self-loops and
    layer normalisation.

    **Exact when**: the gradient is backpropagation through time with a surrogate slope for spikes and the identity for
    rounding; `delay_grad` chooses the gradient of delays.

    **Cost**: training keeps one membrane potential and one byte of spike history per step, node, query and neuron,
    `5 T N B D` bytes in single precision. Time is `O(T (P + E) B D)` for P distinct pairs (source, relation) and E
    edges, plus `O(T N B D²)`.

    Args:
        relations: Number of relations R of the graph, inverse ones included, from 1 to 10**6.
        width: Neurons D per node and query, from 1 to 10**6. Default: 32.
        steps: Time steps T, from 1 to 10**6. Default: 10.
        tau: Time constant of current and membrane in steps, a finite number > 0. Default: 4.0.
        threshold: Firing threshold :math:`V_{th}`, a finite number > 0. Default: 2.0.
        max_delay: Largest delay :math:`\beta` in steps, in [0, 6]. Default: 4.
        decay: Weight :math:`\gamma` of a spike relative to one a step earlier, in (0, 1]. Default: 0.95.
        scale: Factor :math:`\kappa` of the synaptic current, any finite number. Default: 1.0.
        dependent: True makes delays (and weights) a linear function of the query vector, False a parameter per
            relation. Default: True.
        weighted: True multiplies messages by a weight per relation and channel. Default: False.
        self_loops: True adds self-loops: the last spikes of a node are inputs of its own linear map. Default: False.
        layer_norm: True normalises the synaptic current over the channels of a node. Default: False.
        aggregate: "sum", or "pna" (mean, maximum, minimum and standard deviation of messages). Default: "sum".
        surrogate: `Surrogate`, slope of spikes in the backward pass. Default: `Sigmoid(4.0)`.
        delay_grad: Gradient of delays: "exact" (derivative of the response to a spike that arrives a fraction of a step
            later), "finite_difference" (difference to a spike one step later) or "reference" (the released code, which
            filters the trace twice). Default: "exact".
        symmetric: True averages the node features of a pair over both directions, one run per candidate.
            Default: False.

    Raises:
        ConfigError: An argument is out of its range.

    **Differs from the reference code**: that uses `delay_grad="reference"`, and also has two time constants and a
    regulariser of the membrane, which its configurations do not use.

    Reference:
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851.

    >>> import torch
    >>> from spikewright.graph import GRSNN
    >>> from spikewright.graph import RelationalGraph
    >>> facts = torch.tensor([[0, 0, 1], [1, 0, 2]])
    >>> graph = RelationalGraph.of(facts, nodes=3, relations=1)
    >>> model = GRSNN(graph.relations, width=8)
    >>> model(graph, sources=facts[:, 0], relations=facts[:, 1], edge_weight=graph.without(facts)).shape
    torch.Size([2, 3])
    >>> model.spikes(graph, facts[:, 0], facts[:, 1]).shape
    torch.Size([10, 3, 2, 8])
    """

    def __init__(
        self,
        relations: int,
        *,
        width: int = 32,
        steps: int = 10,
        tau: float = 4.0,
        threshold: float = 2.0,
        max_delay: int = 4,
        decay: float = 0.95,
        scale: float = 1.0,
        dependent: bool = True,
        weighted: bool = False,
        self_loops: bool = False,
        layer_norm: bool = False,
        aggregate: Aggregate = "sum",
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        delay_grad: DelayGrad = "exact",
        symmetric: bool = False,
    ) -> None:
        super().__init__(relations, width, symmetric)
        check_count("GRSNN", "steps", steps, "the network runs at least one step", most=MOST)
        check_count("GRSNN", "max_delay", max_delay, "a byte holds the spikes of so many steps", 0, LONGEST)
        check_numbers("GRSNN", "(0, inf)", tau=tau, threshold=threshold)
        check_within("GRSNN", "decay", decay, "(0, 1]", "a spike weighs so much less than one a step earlier")
        check_within("GRSNN", "scale", scale, "(-inf, inf)", "the synaptic current is multiplied by it")
        check_flag("GRSNN", dependent=dependent, weighted=weighted, self_loops=self_loops, layer_norm=layer_norm)
        check_choice("GRSNN", "aggregate", aggregate, ("sum", "pna"))
        check_choice("GRSNN", "delay_grad", delay_grad, get_args(DelayGrad))
        check_instance("GRSNN", "surrogate", surrogate, Surrogate, "Sigmoid(4.0)")
        self.dynamics = AlphaDynamics(steps, tau, threshold, decay, surrogate, delay_grad)
        self.max_delay, self.scale, self.self_loops, self.aggregate = max_delay, scale, self_loops, aggregate
        self.delay = ByRelation(relations, width, dependent)
        self.weight = ByRelation(relations, width, dependent) if weighted else None
        self.synapse = nn.Linear((FEATURES if aggregate == "pna" else 1) * width + self_loops * width, width)
        self.norm = nn.LayerNorm(width) if layer_norm else None

    @classmethod
    def plus(cls, relations: int, **options: Any) -> "GRSNN":
        """Return GRSNN+: `weighted`, `self_loops` and `layer_norm` are True.

        Args:
            relations: Number of relations R of the graph, inverse ones included, from 1 to 10**6.
            **options: Further arguments of `GRSNN`.
        """
        return cls(relations, **{**PLUS, **options})

    def query_vector(self, relations: Tensor) -> Tensor:
        return (self.query(relations) + 1) * (self.dynamics.threshold / 2)

    def node_features(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> Tensor:
        learning = [p for module in (self.synapse, self.norm) if module is not None for p in module.parameters()]
        return propagate(*self._run(graph, sources, query, edge_weight), parameters=learning)

    def spikes(
        self, graph: RelationalGraph, sources: Tensor, relations: Tensor, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Return the spikes of a run, bool `[time, nodes, batch, width]`, without gradients.

        Args:
            graph: `RelationalGraph` with N nodes.
            sources: Source node of each query, int64 `[B]`.
            relations: Relation of each query, int64 `[B]`.
            edge_weight: Weight of each edge. Shape `[E]`. Default: None, 1.
        """
        return spikes(*self._run(graph, sources, self.query_vector(relations), edge_weight))

    def delays(self, relations: Tensor) -> Tensor:
        """Return the delay of every relation for each query in steps, before rounding, `[R, B, D]`.

        Args:
            relations: Relation of each query, int64 `[B]`.
        """
        return self.max_delay * torch.sigmoid(self.delay(self.query_vector(relations)))

    def _run(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> tuple[Propagation, Tensor, Tensor, Tensor | None, Tensor | None]:
        pna = self.aggregate == "pna"

        def synapses(messages: Tensor, last: Tensor | None) -> Tensor:
            arrived = principal(graph, messages, edge_weight) if pna else messages
            inputs = arrived if last is None else torch.cat([last, arrived], -1)
            x = linear(inputs, self.scale * self.synapse.weight, self.scale * self.synapse.bias)
            return x if self.norm is None else self.norm(x)

        delays = self.max_delay * torch.sigmoid(self.delay(query))
        weights = None if self.weight is None else self.weight(query)
        propagation = Propagation(
            graph.one_each if pna else graph, sources, self.dynamics, synapses, self.max_delay, self.self_loops
        )
        return propagation, query, delays, weights, None if pna else edge_weight
