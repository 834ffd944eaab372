r"""Reasoning with spike times: every edge delays spikes by what its relation means to the query."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from spikewright.errors import ConfigError
from spikewright.graph.dynamics import Dynamics
from spikewright.graph.models._by_relation import ByRelation
from spikewright.graph.models._scorer import LinkScorer
from spikewright.graph.models.aggregation import FEATURES, Aggregate, principal
from spikewright.graph.propagation import LONGEST, Journey, propagate, spikes
from spikewright.graph.structure import RelationalGraph
from spikewright.kernels.delays import DelayGrad
from spikewright.surrogate import Sigmoid, Surrogate

PLUS = {"weighted": True, "own": True, "layer_norm": True}
"""What makes GRSNN+."""


class GRSNN(LinkScorer):
    r"""A spiking network in the shape of the graph, with a group of neurons at every node.

    The source of a query is driven by a constant current :math:`\hat q = (q + 1) V_{th} / 2`; the delay of relation r
    is :math:`\delta_r = \mathrm{round}(\beta\,\sigma(P_r(\hat q)))` for each channel, so an edge takes
    :math:`\delta + 1` steps; nodes that are reached early, by short paths, fire early and often, which is what the
    score is read from.

    Args:
        relations: Number of relations R, inverse ones included.
        width: Neurons D of a node, for each query.
        steps: Time steps T.
        tau: Time constant of neurons, in steps.
        threshold: Of neurons.
        max_delay: Longest delay :math:`\beta` of an edge, in steps.
        decay: How much less a spike counts for every step it is later.
        scale: Factor :math:`\kappa` on what synapses deliver.
        dependent: Delays (and weights) depend on the query; else on the relation alone.
        weighted: Messages have weights by relation as well.
        own: A node sends its last spikes to itself.
        layer_norm: What synapses deliver is normalised over the channels of a node.
        aggregate: "sum", or "pna" (mean, maximum, minimum and deviation).
        surrogate: Slope of spikes.
        delay_grad: Gradient of delays: "exact", "finite_difference" or "reference"; see `Dynamics`.
        symmetric: Score a pair of nodes from both ends.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851.
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
        own: bool = False,
        layer_norm: bool = False,
        aggregate: Aggregate = "sum",
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        delay_grad: DelayGrad = "exact",
        symmetric: bool = False,
    ) -> None:
        super().__init__(relations, width, symmetric)
        if not 0 <= max_delay <= LONGEST or steps < 1 or not (tau > 0 and threshold > 0 and 0 < decay <= 1):
            raise ConfigError(
                f"GRSNN(steps={steps}, tau={tau}, threshold={threshold}, max_delay={max_delay}, decay={decay}): there "
                f"is at least one step, tau and threshold are above 0, delays of 0 to {LONGEST} steps fit into a byte "
                "of history, and the decay lies above 0, up to 1."
            )
        if aggregate not in ("sum", "pna") or delay_grad not in ("exact", "finite_difference", "reference"):
            raise ConfigError(
                f"GRSNN(aggregate={aggregate!r}, delay_grad={delay_grad!r}): messages are aggregated by 'sum' or "
                "'pna', and the gradient of delays is 'exact', 'finite_difference' or 'reference'."
            )
        self.dynamics = Dynamics(steps, tau, threshold, decay, surrogate, delay_grad)
        self.max_delay, self.scale, self.own, self.aggregate = max_delay, scale, own, aggregate
        self.delay = ByRelation(relations, width, dependent)
        self.weight = ByRelation(relations, width, dependent) if weighted else None
        self.synapse = nn.Linear((FEATURES if aggregate == "pna" else 1) * width + own * width, width)
        self.norm = nn.LayerNorm(width) if layer_norm else None

    @classmethod
    def plus(cls, relations: int, **options: Any) -> "GRSNN":
        """Return GRSNN+: weights by relation, connections of nodes to themselves, and layer normalisation."""
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
        """Return every spike of a run, bool, `[T, N, B, D]`; arguments as for a call."""
        return spikes(*self._run(graph, sources, self.query_vector(relations), edge_weight))

    def delays(self, relations: Tensor) -> Tensor:
        """Return the delays of all edges, in steps, before rounding: `[R, B, D]` for queries `[B]`."""
        return self.max_delay * torch.sigmoid(self.delay(self.query_vector(relations)))

    def _run(
        self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Tensor | None
    ) -> tuple[Journey, Tensor, Tensor, Tensor | None, Tensor | None]:
        pna = self.aggregate == "pna"

        def synapses(messages: Tensor, last: Tensor | None) -> Tensor:
            arrived = principal(graph, messages, edge_weight) if pna else messages
            inputs = arrived if last is None else torch.cat([last, arrived], -1)
            x = linear(inputs, self.scale * self.synapse.weight, self.scale * self.synapse.bias)
            return x if self.norm is None else self.norm(x)

        delays = self.max_delay * torch.sigmoid(self.delay(query))
        weights = None if self.weight is None else self.weight(query)
        journey = Journey(graph.one_each if pna else graph, sources, self.dynamics, synapses, self.max_delay, self.own)
        return journey, query, delays, weights, None if pna else edge_weight
