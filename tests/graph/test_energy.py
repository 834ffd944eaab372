"""What an answer costs, counted spike by spike and edge by edge."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError, InputError
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data.family import family
from spikewright.graph.energy import cost_of_layers, cost_of_spikes, energy_of
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.structure import RelationalGraph
from tests.graph.test_negative_sampling import citations

CHAIN = torch.tensor([[0, 0, 1], [1, 0, 2], [1, 1, 3], [3, 1, 3]])
SOURCES, KINDS = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 3])


def spiking(**options) -> GRSNN:
    torch.manual_seed(0)
    return GRSNN(4, width=3, steps=7, scale=4.0, **options)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("aggregate", ["sum", "pna"])
def test_the_cost_of_spikes(own: bool, aggregate: str) -> None:
    graph, model = RelationalGraph.of_edges(CHAIN, 5, 4), spiking(self_loops=own, aggregate=aggregate)  # directed
    fired = model.spikes(graph, SOURCES, KINDS)
    edges = graph.edges.tolist()
    additions = itself = 0
    for _, node, _, _ in fired[:-1].nonzero().tolist():  # what fires at the last step is not sent
        additions += sum(source == node for source, _, _ in edges)
        itself += 3 if own else 0
    inputs = 0
    for node in range(5):
        for query in range(3):
            for channel in range(3):
                reached = any(t == node and fired[:-1, s, query, channel].any() for s, _, t in edges)
                inputs += reached * (12 if aggregate == "pna" else 1)
    cost = cost_of_spikes(model, graph, model.spikes(graph, SOURCES, KINDS))
    assert 0 < additions and 0 < inputs
    assert cost.messages.additions == pytest.approx(additions / 3) and cost.messages.multiplications == 0
    assert cost.nodes.additions == pytest.approx(itself / 3)
    assert cost.nodes.multiplications == pytest.approx(6 * inputs * 3 / 3 + 2 * 6 * 5 * 3)
    total = 0.9 * (additions + itself) / 3 + 4.6 * cost.nodes.multiplications
    assert cost.picojoules == pytest.approx(total)


def test_silence_costs_nothing_on_the_way() -> None:
    graph, model = RelationalGraph.of(CHAIN, 5, 2), spiking()
    with torch.no_grad():
        model.query.weight.fill_(-1.0)
        model.synapse.bias.zero_()
    cost = cost_of_spikes(model, graph, model.spikes(graph, SOURCES, KINDS))
    assert cost.messages.picojoules == 0 and cost.nodes.multiplications == 2 * 6 * 5 * 3


def test_the_cost_of_layers() -> None:
    """A multiplication for each channel, edge and layer, and a linear map at each node."""
    cost = cost_of_layers(RelationalGraph.of(CHAIN, 5, 2), 3, layers=2, inputs=13)
    assert cost.messages.multiplications == 2 * 8 * 3 and cost.nodes.multiplications == 2 * 5 * 13 * 3 * 3
    assert cost.messages.additions == cost.nodes.additions == 0
    assert cost.picojoules == pytest.approx(4.6 * (48 + 1170))


def test_the_report_of_a_spiking_model() -> None:
    data = family(trees=2, generations=3)
    torch.manual_seed(0)
    model = GRSNN(2 * len(data.relations), width=3, steps=7, scale=4.0).train()
    graph, query = graph_of(data, data.test), data.test.queries[:5]
    found = energy_of(model, data, queries=5)
    cost, other = cost_of_spikes(model, graph, model.spikes(graph, query[:, 0], query[:, 1])), cost_of_layers(graph, 3)
    fired = model.spikes(graph, query[:, 0], query[:, 1]).double()
    assert found["nanojoules"] == pytest.approx(cost.picojoules / 1000)
    assert found["nbfnet_nanojoules"] == pytest.approx(other.picojoules / 1000)
    edges = 2 * len(data.test.facts)
    assert other.picojoules == pytest.approx(4.6 * 6 * (edges * 3 + graph.nodes * 2 * 9))
    assert found["ratio"] == pytest.approx(other.picojoules / cost.picojoules)
    assert found["ratio_messages"] == pytest.approx(other.messages.picojoules / cost.messages.picojoules)
    assert found["firing_rate"] == pytest.approx(float(fired.mean())) and 0 < found["firing_rate"] < 1
    assert found["spikes_per_neuron"] == pytest.approx(7 * found["firing_rate"])
    assert found["messages"]["additions"] == pytest.approx(cost.messages.additions) and model.training


@pytest.mark.parametrize(("aggregate", "inputs"), [("sum", 2), ("pna", 13)])
def test_the_report_of_layers(aggregate: str, inputs: int) -> None:
    data = family(trees=2, generations=3)
    model = NBFNet(2 * len(data.relations), width=3, layers=4, aggregate=aggregate)  # type: ignore[arg-type]
    found, graph = energy_of(model, data), graph_of(data, data.test)
    assert found["nanojoules"] == pytest.approx(cost_of_layers(graph, 3, 4, inputs).picojoules / 1000)
    assert found["ratio_messages"] == pytest.approx(6 / 4) and "firing_rate" not in found
    same = NBFNet(2 * len(data.relations), width=3, aggregate="sum")
    assert energy_of(same, data)["ratio"] == 1


def test_links_and_few_queries() -> None:
    data = citations()
    model = GRSNN(1, width=3, dependent=False)
    few = replace(data, test=replace(data.test, queries=data.test.queries[:2]))
    assert all(math.isfinite(energy_of(model, d)["ratio"]) for d in (data, few))


def test_without_messages_the_energy_is_a_number() -> None:
    """After one step nothing was sent and nothing updated; without edges or spikes nothing is sent."""
    data = family(trees=2, generations=3)
    short = energy_of(GRSNN(2 * len(data.relations), width=3, steps=1), data)
    assert short["nanojoules"] == 0 and short["ratio"] is None and short["ratio_messages"] is None
    bare = replace(data, test=replace(data.test, facts=data.test.facts[:0]))
    for model in (GRSNN(2 * len(data.relations), width=3), NBFNet(2 * len(data.relations), width=3)):
        found = energy_of(model, bare)
        assert found["nanojoules"] > 0 and math.isfinite(found["ratio"]) and found["ratio_messages"] is None
        assert found["messages"]["additions"] == found["messages"]["multiplications"] == 0


def test_what_has_no_energy() -> None:
    data = family(trees=2, generations=3)
    none, model = replace(data, test=replace(data.test, queries=data.test.queries[:0])), GRSNN(34, width=3)
    for arguments in ((model, none), (model, data, 0), (Constant(34, 3, False), data)):
        with pytest.raises((ConfigError, InputError), match=r"Operations are counted for GRSNN and NBFNet|queries=0"):
            energy_of(*arguments)  # type: ignore[arg-type]


class Constant(LinkScorer):
    def query_vector(self, relations: Tensor) -> Tensor:
        return self.query(relations)

    def node_features(self, graph: RelationalGraph, sources: Tensor, query: Tensor, edge_weight: Any) -> Tensor:
        return query.new_zeros(graph.nodes, *query.shape)
