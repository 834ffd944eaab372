"""The paths behind an answer: known ones, all of them by brute force, and a model that is none the wiser."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, InputError
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.paths import Path, WhereFired, edges_but_own, explain, relation_names
from spikewright.graph.structure import RelationalGraph
from spikewright.surrogate import Sigmoid

pytestmark = pytest.mark.usefixtures("float64")
MODELS = {
    "grsnn": lambda relations: GRSNN(relations, width=4, steps=16),
    "grsnn+": lambda relations: GRSNN.plus(relations, width=4, steps=16),
    "nbfnet": lambda relations: NBFNet(relations, width=4, layers=4),
    "nbfnet, sums": lambda relations: NBFNet(relations, width=4, layers=4, aggregate="sum"),
}
ALL = 10_000
Fact = tuple[int, int, int]


def of(
    facts: list[tuple[int, int, int]] | Tensor, nodes: int, relations: tuple[str, ...]
) -> tuple[GraphData, GraphSplit]:
    triples = torch.as_tensor(facts)
    split = GraphSplit(triples, triples, triples, tuple("abcdefgh"[:nodes]))
    return GraphData("toy", relations, split, split, split, homogeneous=relations == ("link",)), split


def random(seed: int, facts: int = 20, nodes: int = 6) -> tuple[GraphData, GraphSplit]:
    drawn = torch.randint(nodes, (facts, 3), generator=torch.Generator().manual_seed(seed))
    drawn[:, 1] %= 2
    return of(drawn.unique(dim=0), nodes, ("r", "s"))


def made(name: str, relations: int) -> LinkScorer:
    return driven(MODELS[name](relations))


def driven(model: LinkScorer) -> LinkScorer:
    """Make drives and synapses so strong that spikes get around."""
    if isinstance(model, GRSNN):
        torch.nn.init.uniform_(model.query.weight, 0.5, 2.0)
        torch.nn.init.uniform_(model.synapse.weight, 0.5, 2.0)
    return model


class Given(nn.Module):
    """Scores by weights of edges that it was given, which so are the gradients."""

    def __init__(self, edges: int, seed: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(edges, generator=torch.Generator().manual_seed(seed)))

    def forward(
        self, graph: RelationalGraph, sources: Tensor, relations: Tensor, candidates: Tensor, edge_weight: Tensor
    ):
        assert not self.training and sources.shape == relations.shape == (1,) and candidates.shape == (1, 1)
        return (self.weights * edge_weight).sum().view(1, 1)


def given(data: GraphData, split: GraphSplit, seed: int) -> Any:
    return Given(len(graph_of(data, split).targets), seed)


def every_path(data: GraphData, split: GraphSplit, fact: Fact, length: int) -> Iterator[list[int]]:
    """The edges of each path from head to tail that no fact and no entity is on twice."""
    graph = graph_of(data, split)
    edges, edge_weight = graph.edges.tolist(), edges_but_own(data, graph, fact)

    def onward(path: list[int], seen: list[int]) -> Iterator[list[int]]:
        if seen[-1] == fact[2]:
            yield path
        elif len(path) < length:
            for number, (source, _, target) in enumerate(edges):
                if source == seen[-1] and target not in seen and edge_weight[number]:
                    yield from onward([*path, number], [*seen, target])

    if fact[0] != fact[2]:
        yield from onward([], [fact[0]])


def by_brute_force(model: LinkScorer, data: GraphData, split: GraphSplit, fact: Fact, length: int = 4) -> list:
    graph = graph_of(data, split)
    edge_weight = edges_but_own(data, graph, fact).requires_grad_()
    head, relation, tail = torch.tensor(fact)[:, None]
    (gradient,) = torch.autograd.grad(model.eval()(graph, head, relation, tail[:, None], edge_weight), edge_weight)
    paths = list(every_path(data, split, fact, length))
    names, edges = relation_names(data), graph.edges.tolist()
    named = [
        tuple((split.entities[s], names[r], split.entities[t]) for s, r, t in (edges[e] for e in path))
        for path in paths
    ]
    found = [(float(gradient[path].mean()), name) for path, name in zip(paths, named)]
    return sorted((path for path in found if path[0]), key=lambda path: (-path[0], len(path[1])))


def own_slope(model: LinkScorer) -> Sigmoid | None:
    return Sigmoid() if isinstance(model, GRSNN) else None


@pytest.mark.parametrize("name", MODELS)
def test_the_only_path_is_found_and_the_edge_of_the_fact_is_not_on_it(name: str) -> None:
    data, split = of([(0, 0, 1), (2, 1, 1), (2, 0, 3), (0, 1, 3), (1, 0, 4)], 5, ("r", "s"))
    (found,) = explain(made(name, 4), data, split, (0, 1, 3))
    assert found.edges == (("a", "r", "b"), ("b", "s^-1", "c"), ("c", "r", "d"))
    assert str(found) == "a -r-> b <-s- c -r-> d"
    both = explain(made(name, 4), data, split, (0, 0, 3))
    assert sorted(str(path) for path in both) == ["a -r-> b <-s- c -r-> d", "a -s-> d"]
    (back,) = explain(made(name, 4), data, split, (3, 3, 0))
    assert str(back) == "d <-r- c -s-> b <-r- a"


@pytest.mark.parametrize("name", MODELS)
def test_many_beams_find_every_path_there_is(name: str) -> None:
    for seed in range(4):
        data, split = random(seed)
        model, fact = made(name, 4), next((h, r, t) for h, r, t in split.facts.tolist() if h != t)
        found = explain(model, data, split, fact, beams=ALL, top=ALL, surrogate=own_slope(model))
        expected = by_brute_force(model, data, split, fact)
        assert len(expected) > 8
        assert {path.edges for path in found} == {edges for _, edges in expected}
        weights = torch.tensor([path.weight for path in found])
        torch.testing.assert_close(weights, torch.tensor([weight for weight, _ in expected]))
        assert weights.max() > weights.min()


def test_a_beam_for_each_path_that_is_asked_for_misses_none_of_three_edges() -> None:
    for seed in range(12):
        data, split = random(seed, facts=24, nodes=7)
        model, fact = given(data, split, seed), (0, 0, 1)
        expected = by_brute_force(model, data, split, fact, length=3)
        for number in (1, 4):
            found = explain(model, data, split, fact, beams=number, top=number, length=3)
            assert [path.edges for path in found] == [edges for _, edges in expected[:number]]


def test_ten_beams_find_the_best_paths_of_four_edges() -> None:
    hits = 0
    for seed in range(12):
        data, split = random(seed, facts=24, nodes=7)
        model = given(data, split, seed)
        found = explain(model, data, split, (0, 0, 1))
        expected = by_brute_force(model, data, split, (0, 0, 1))[:10]
        assert found[0].edges == expected[0][1]
        hits += len({path.edges for path in found} & {edges for _, edges in expected})
    assert hits >= 0.95 * 120


def test_what_has_arrived_takes_no_beam_from_others() -> None:
    data, split = of([(0, 0, 1), (0, 0, 2), (1, 0, 3), (2, 0, 3), (3, 1, 1)], 4, ("r", "s"))
    model = given(data, split, 0)
    model.weights.data.fill_(0.5)
    strong = [edge in ([0, 0, 1], [1, 0, 3], [3, 1, 1]) for edge in graph_of(data, split).edges.tolist()]
    model.weights.data[torch.tensor(strong)] = 1.0
    found = explain(model, data, split, (0, 1, 1), beams=1)
    assert [(str(path), path.weight) for path in found] == [
        ("a -r-> b", 1.0),
        ("a -r-> c -r-> d -s-> b", pytest.approx(2 / 3)),
    ]


def test_fewer_beams_lose_paths_but_make_none_up() -> None:
    data, split = random(3, facts=24, nodes=7)
    model = given(data, split, 3)
    expected = dict((edges, weight) for weight, edges in by_brute_force(model, data, split, (0, 0, 1)))
    found = explain(model, data, split, (0, 0, 1), beams=2, top=ALL)
    assert 0 < len(found) <= 8 < len(expected)
    for path in found:
        assert path.weight == pytest.approx(expected[path.edges])
    assert [path.weight for path in found] == sorted((path.weight for path in found), reverse=True)


@pytest.mark.parametrize("name", ["nbfnet", "nbfnet, sums"])
def test_the_weight_is_what_the_score_changes_by(name: str) -> None:
    data, split = of([(0, 0, 1), (1, 1, 2)], 3, ("r", "s"))
    graph, model = graph_of(data, split), made(name, 4).eval()
    (path,) = explain(model, data, split, (0, 0, 2))

    def score(weights: Tensor) -> float:
        return model(graph, torch.tensor([0]), torch.tensor([0]), torch.tensor([[2]]), weights.requires_grad_()).item()

    one = torch.ones(len(graph.targets))
    taken = torch.tensor([edge in ([0, 0, 1], [1, 1, 2]) for edge in graph.edges.tolist()])
    assert taken.sum() == 2
    change = (score(one + 1e-6 * taken) - score(one - 1e-6 * taken)) / 2e-6
    assert path.weight == pytest.approx(change / 2, rel=1e-5) and abs(change) > 1e-3


def test_a_spike_is_credited_to_what_charged_its_neuron() -> None:
    data, split = of([(0, 0, 1)], 2, ("r", "s"))
    model = GRSNN(4, width=1, steps=2, max_delay=0)
    model.query.weight.data.fill_(2.0)
    model.synapse.weight.data.fill_(5.0)
    model.synapse.bias.data.zero_()
    (path,) = explain(model, data, split, (0, 1, 1))
    # All of its membrane is due to the edge, so that (1/u) du/dw is 1, and what counts is when the neuron fires.
    counts = model.dynamics.shares[1]
    there = torch.tensor([counts], requires_grad=True)
    model.readout(torch.cat([there, model.query_vector(torch.tensor([1]))[0]])).sum().backward()
    assert there.grad is not None and there.grad.abs() > 1e-3
    assert path.weight == pytest.approx(counts * float(there.grad))
    model.synapse.weight.data.fill_(2.0)
    assert explain(model, data, split, (0, 1, 1)) == [], "the neuron does not fire"
    assert explain(model, data, split, (0, 1, 1), surrogate=Sigmoid())


def test_slope_of_neurons_that_fire() -> None:
    slope = WhereFired(2.0).slope(torch.tensor([-3.0, -2.0, -1e-9, 0.0, 2.0]))
    assert slope.tolist() == [0.0, 0.0, 0.0, 0.5, 0.25]


def test_spikes_have_the_slope_of_the_paper_unless_another_is_given() -> None:
    data, split = random(1)
    model = made("grsnn", 4)
    usual, paper, sigmoid = (
        [path.weight for path in explain(model, data, split, (0, 0, 1), surrogate=surrogate)]
        for surrogate in (None, WhereFired(2.0), Sigmoid())
    )
    assert usual == paper != sigmoid


@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name: str) -> None:
    data, split = random(0)
    model = made(name, 4).train()
    model.readout.eval()
    if isinstance(model, GRSNN):
        model.dynamics = replace(model.dynamics, surrogate=Sigmoid(2.0))
    gradient = torch.ones_like(model.query.weight)
    model.query.weight.grad = gradient
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, dynamics = [m.training for m in model.modules()], getattr(model, "dynamics", None)
    with torch.no_grad():
        assert explain(model, data, split, (0, 0, 1))
    with pytest.raises(InputError):
        explain(model, data, split, (0, 0, 6))
    assert getattr(model, "dynamics", None) is dynamics
    assert [m.training for m in model.modules()] == modes
    assert model.query.weight.grad is gradient and gradient.eq(1).all()
    assert all(p.grad is None for p in model.parameters() if p is not model.query.weight)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_the_dynamics_come_back_even_if_the_model_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    data, split = random(0)
    model = made("grsnn", 6)
    dynamics = model.dynamics
    with pytest.raises(ConfigError, match="The graph has 4 relations"):
        explain(model, data, split, (0, 0, 1))
    assert model.dynamics is dynamics and model.training


def test_paths_in_a_graph_of_one_relation_go_along_links_in_either_direction() -> None:
    data, split = of([(1, 0, 0), (1, 0, 2), (0, 0, 2)], 3, ("link",))
    for symmetric in (True, False):
        model = driven(GRSNN(1, width=4, steps=16, dependent=False, symmetric=symmetric))
        assert [str(path) for path in explain(model, data, split, (2, 0, 0))] == ["c -link-> b -link-> a"]


def test_nothing_leads_to_where_one_is_or_cannot_get() -> None:
    data, split = of([(0, 0, 1), (1, 0, 2), (3, 0, 4)], 5, ("r", "s"))
    for tail in (0, 4):
        assert explain(made("nbfnet", 4), data, split, (0, 1, tail)) == []
    assert explain(made("nbfnet", 4), data, split, (0, 1, 2), length=1) == []


def test_paths_are_written_as_chains() -> None:
    assert str(Path((("x", "r^-1", "y"),), 1.0)) == "x <-r- y"
    assert str(Path((), 0.0)) == ""


@pytest.mark.parametrize(
    ("model", "fact", "options", "message"),
    [
        ("nbfnet", (0, 0, 1), {"beams": 0}, "beams=0"),
        ("nbfnet", (0, 0, 1), {"length": 0}, "length=0"),
        ("nbfnet", (0, 0, 1), {"top": 0}, "top=0"),
        ("nbfnet", (0, 4, 1), {}, r"The fact \(0, 4, 1\) was asked about, but there are 6 entities and 4 relations"),
        ("nbfnet", (-1, 0, 1), {}, r"fact=-1.*from 0"),
        ("pna", (0, 0, 1), {}, "GRSNN\\(aggregate='pna'\\).*NBFNet"),
    ],
)
def test_what_cannot_be_explained_is_refused(model: str, fact: tuple, options: dict, message: str) -> None:
    data, split = random(0)
    scorer = GRSNN(4, width=4, aggregate="pna") if model == "pna" else made(model, 4)
    with pytest.raises((ConfigError, InputError), match=message):
        explain(scorer, data, split, fact, **options)
