"""Energy estimate of one query: additions of a spiking model, multiplications of NBFNet on the same graph."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.ranges import check_counts, check_instance
from spikewright._util.trial import evaluating
from spikewright.errors import InputError
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data import GraphData
from spikewright.graph.messages import EdgeSpikes, arriving
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.negative_sampling import both_ways
from spikewright.graph.structure import RelationalGraph
from spikewright.metrics.operations import Operations

LAYERS = 6
"""Number of layers of the NBFNet to compare with."""


@dataclass(frozen=True)
class GraphEnergy:
    """Operations of one query with all nodes scored, without the readout and without the layers that compute delays and
    weights.

    Attributes:
        messages: `Operations` along edges: one addition per spike and edge, or one multiplication per channel and edge.
        nodes: `Operations` at nodes: the linear map of the summed messages, and neuron updates.
    """

    messages: Operations
    nodes: Operations

    @property
    def picojoules(self) -> float:
        """Energy of all operations in picojoules."""
        return (self.messages + self.nodes).picojoules


def cost_of_layers(graph: RelationalGraph, width: int, layers: int = LAYERS, inputs: int = 2) -> GraphEnergy:
    """Return the operations of NBFNet.

    Args:
        graph: `RelationalGraph`.
        width: Channels per node, at least 1.
        layers: Number of layers, at least 1. Default: 6.
        inputs: Inputs of a node's linear map, in multiples of `width`, at least 1. Default: 2.
    """
    edges, nodes = len(graph.targets) * width, graph.nodes * inputs * width * width
    return GraphEnergy(Operations(0, layers * edges), Operations(0, layers * nodes))


@torch.no_grad()
def cost_of_spikes(model: GRSNN, graph: RelationalGraph, fired: Tensor) -> GraphEnergy:
    """Return the operations of GRSNN for recorded spikes, averaged over queries.

    A spike costs one addition per outgoing edge, and with self-loops one per row of the linear map. The linear map
    costs one multiplication per non-zero input and row. A neuron costs two multiplications per step.

    Args:
        model: `GRSNN` that fired.
        graph: `RelationalGraph` that it ran on.
        fired: Spikes. Shape `[time, nodes, queries, width]`.
    """
    steps, queries = len(fired), fired.shape[2]
    leaving = torch.bincount(graph.edges[:, 0], minlength=graph.nodes)
    sent = fired[:-1].sum((0, 2, 3)).to(torch.float64)
    messages = float((sent * leaving).sum()) / queries
    ever = fired[:-1].any(0).flatten(1).to(torch.uint8)  # at any step: an upper bound of the non-zero inputs
    at_once = ever.new_zeros(graph.relations, ever.shape[1])
    arrived = arriving(graph, EdgeSpikes(ever, at_once), None, torch.float32)
    inputs = model.synapse.in_features - model.self_loops * model.width
    maps = (steps - 1) * float((arrived > 0).sum()) / queries * inputs
    own = float(sent.sum()) / queries * model.width if model.self_loops else 0.0
    updates = 2 * (steps - 1) * graph.nodes * model.width
    return GraphEnergy(Operations(messages, 0), Operations(own, maps + updates))


def energy_of(model: LinkScorer, data: GraphData, queries: int = 32) -> dict[str, Any]:
    """Return the estimated energy of one query on the test graph, beside a six-layer NBFNet that sums messages.

    Constants: 0.9 pJ per addition, 4.6 pJ per multiplication with addition (45 nm CMOS). Readouts and the layers that
    compute delays and weights are not counted.

    Args:
        model: `GRSNN` or `NBFNet`; runs in evaluation mode without gradients.
        data: `GraphData` that the model was built for.
        queries: Number of test queries to average over, at least 1. Default: 32.

    Returns:
        `nanojoules` and `nbfnet_nanojoules` per query; `ratio`, NBFNet over the model, and `ratio_messages`, the same
        along edges alone (each `None` if the model costs nothing there); `messages` and `nodes`, the operations; for
        GRSNN also `spikes_per_neuron` over a run and `firing_rate` per neuron and step.

    Raises:
        ConfigError: `queries` is out of its range.
        InputError: There are no test queries, or the model is neither a `GRSNN` nor an `NBFNet`.
    """
    check_counts("energy_of", queries=queries)
    check_instance("energy_of", "data", data, GraphData, "load_graph('family')")
    if not len(data.test.queries) or not isinstance(model, GRSNN | NBFNet):
        raise InputError(
            f"The energy of {type(model).__name__} was asked for on '{data.name}' with {len(data.test.queries)} test "
            "queries. Operations are counted for GRSNN and NBFNet, one query at least. Give such a model and a graph "
            "with test queries."
        )
    graph = graph_of(data, data.test).to(next(model.parameters()).device)
    other = cost_of_layers(graph, model.width)
    sources, relations, _ = both_ways(data.test.queries[:queries], 0 if data.homogeneous else len(data.relations))
    found: dict[str, Any] = {}
    with evaluating(model):
        if isinstance(model, GRSNN):
            query = sources[:queries].to(graph.sources.device), relations[:queries].to(graph.sources.device)
            fired = model.spikes(graph, *query)
            own, rate = cost_of_spikes(model, graph, fired), float(fired.sum()) / fired.numel()
            found = {"spikes_per_neuron": rate * len(fired), "firing_rate": rate}
        else:
            inputs = model.updates[0][0].in_features // model.width  # type: ignore[index]
            own = cost_of_layers(graph, model.width, len(model.updates), inputs)
    return {
        "nanojoules": own.picojoules / 1e3,
        "nbfnet_nanojoules": other.picojoules / 1e3,
        "ratio": _ratio(other.picojoules, own.picojoules),
        "ratio_messages": _ratio(other.messages.picojoules, own.messages.picojoules),
        **found,
        "messages": asdict(own.messages),
        "nodes": asdict(own.nodes),
    }


def _ratio(other: float, own: float) -> float | None:
    """Return one cost in multiples of another; `None` if that is 0, as with one step or without edges."""
    return other / own if own else None
