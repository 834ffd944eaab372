"""The layout of a graph, against loops over its edges."""

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.graph.structure import RelationalGraph

NODES, RELATIONS = 7, 3


def facts(number: int = 25) -> Tensor:
    """Some twice, some from a node to itself; the last node has none."""
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(high, (number,), generator=generator) for high in (NODES - 1, RELATIONS, NODES - 1)]
    rows = torch.stack(columns, 1)
    return torch.cat([rows, rows[:3]])


def rows(edges: Tensor) -> list[tuple[int, ...]]:
    return sorted(tuple(row) for row in edges.tolist())


def test_every_fact_is_there_once_in_each_direction() -> None:
    graph = RelationalGraph.of(facts(), NODES, RELATIONS)
    there = facts().tolist()
    assert rows(graph.edges) == sorted([(h, r, t) for h, r, t in there] + [(t, r + RELATIONS, h) for h, r, t in there])
    assert (graph.nodes, graph.relations, graph.arrivals) == (NODES, 2 * RELATIONS, NODES)


def test_links_go_both_ways_and_every_node_has_a_loop() -> None:
    links = torch.tensor([[0, 0, 1], [3, 0, 2]])
    graph = RelationalGraph.undirected(links, 4)
    loops = [(n, 0, n) for n in range(4)]
    assert rows(graph.edges) == sorted([(0, 0, 1), (1, 0, 0), (3, 0, 2), (2, 0, 3), *loops])
    assert graph.relations == 1


def test_edges_are_laid_out_for_both_directions() -> None:
    graph = RelationalGraph.of(facts(), NODES, RELATIONS)
    edges = [tuple(e) for e in graph.edges.tolist()]
    pairs = list(zip(graph.sources.tolist(), graph.kinds.tolist()))
    assert pairs == sorted({(s, r) for s, r, _ in edges})  # each once, in the order of sources
    assert edges == sorted(edges)
    starts, sources, kinds, order = (t.tolist() for t in graph.by_target)
    assert sorted(order) == list(range(len(edges))) and len(starts) == NODES + 1
    for node in range(NODES):
        mine = range(starts[node], starts[node + 1])
        assert [edges[order[i]] for i in mine] == [e for e in edges if e[2] == node]
        assert [(sources[i], kinds[i]) for i in mine] == [e[:2] for e in edges if e[2] == node]
        own = range(*graph.by_source[node : node + 2].tolist())
        assert [pairs[p] for p in own] == [p for p in pairs if p[0] == node]
    for number, pair in enumerate(pairs):
        assert edges[slice(*graph.by_pair[number : number + 2].tolist())] == [e for e in edges if e[:2] == pair]
    assert graph.degrees.tolist() == [sum(e[2] == node for e in edges) for node in range(NODES)]


def test_every_pair_can_have_a_target_of_its_own() -> None:
    graph = RelationalGraph.of(facts(), NODES, RELATIONS)
    each = graph.one_each
    numbers = torch.arange(len(graph.sources))
    assert each.arrivals == len(numbers) < len(graph.pairs)
    assert torch.equal(each.edges, torch.stack([graph.sources, graph.kinds, numbers], 1))
    assert each.degrees.tolist() == [1] * len(numbers) and each.by_target[0].tolist() == list(range(len(numbers) + 1))


@pytest.mark.parametrize("between", [False, True])
def test_facts_are_taken_out_in_both_directions(between: bool) -> None:
    graph, hidden = RelationalGraph.of(facts(), NODES, RELATIONS), facts()[[4, 0, 9]]
    there = {tuple(row) for row in hidden.tolist()}
    gone = there | {(t, r + RELATIONS, h) for h, r, t in there}
    linked = {(h, t) for h, _, t in gone}
    edge_weight = graph.without(hidden, between)
    expected = [(s, t) not in linked if between else (s, r, t) not in gone for s, r, t in graph.edges.tolist()]
    assert edge_weight.tolist() == expected and edge_weight.dtype == torch.get_default_dtype()
    assert graph.without(hidden, True).sum() < graph.without(hidden, False).sum() < len(edge_weight)
    assert graph.without(hidden[:0], between).all()


@pytest.mark.parametrize("between", [False, True])
def test_a_link_is_taken_out_in_both_directions(between: bool) -> None:
    graph = RelationalGraph.undirected(torch.tensor([[0, 0, 1], [3, 0, 2], [1, 0, 2]]), 4)
    edge_weight = graph.without(torch.tensor([[2, 0, 3]]), between)
    assert rows(graph.edges[edge_weight == 0]) == [(2, 0, 3), (3, 0, 2)]


def test_an_edge_is_not_confused_with_another_of_the_same_product() -> None:
    """Keys of edges are numbers in a mixed base: fact (1, 0, 0) is not (0, 1, ...) or (0, 0, N)."""
    every = torch.cartesian_prod(torch.arange(4), torch.arange(2), torch.arange(4))
    graph = RelationalGraph.of(every, 4, 2)
    for fact in every:
        h, r, t = fact.tolist()
        gone = {(h, r, t), (t, r + 2, h)}
        assert set(rows(graph.edges[graph.without(fact[None]) == 0])) == gone
        linked = rows(graph.edges[graph.without(fact[None], True) == 0])
        assert {(s, e) for s, _, e in linked} == {(h, t), (t, h)} and len(linked) == 4 * len({(h, t), (t, h)})


def test_it_moves_as_a_whole() -> None:
    graph = RelationalGraph.of(facts(), NODES, RELATIONS)
    graph.by_target, graph.one_each  # noqa: B018  (what was laid out here does not go along)
    moved = graph.to("meta")
    assert {t.device.type for t in (moved.sources, moved.kinds, moved.pairs, moved.targets)} == {"meta"}
    assert moved.one_each.sources.device.type == "meta" and graph.sources.device.type == "cpu"


def test_a_graph_without_edges() -> None:
    graph = RelationalGraph.of(torch.zeros(0, 3, dtype=torch.int64), 3, 2)
    assert graph.edges.shape == (0, 3) and graph.degrees.tolist() == [0, 0, 0]
    assert graph.by_target[0].tolist() == graph.by_source.tolist() == [0, 0, 0, 0] and graph.by_pair.tolist() == [0]
    assert graph.without(torch.tensor([[0, 0, 1]])).shape == (0,)


@pytest.mark.parametrize("wrong", [[7, 0, 0], [0, 0, 7], [0, 3, 0], [-1, 0, 0], [0, 0, -1], [0, -1, 0]])
def test_numbers_out_of_range_are_refused(wrong: list[int]) -> None:
    with pytest.raises(ConfigError, match="the graph has 7 nodes and 3 relations, numbered from 0"):
        RelationalGraph.of(torch.tensor([[0, 0, 0], wrong]), NODES, RELATIONS)
    with pytest.raises(ConfigError, match="numbered from 0"):
        RelationalGraph.of_edges(torch.tensor([wrong]), NODES, RELATIONS)


def test_an_undirected_graph_has_one_relation() -> None:
    with pytest.raises(ConfigError, match="relations up to 1"):
        RelationalGraph.undirected(torch.tensor([[0, 1, 0]]), NODES)


@pytest.mark.parametrize("wrong", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)])
def test_other_shapes_are_refused(wrong: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"Facts are int64, \[any, 3\]: head, relation, tail"):
        RelationalGraph.of(wrong, NODES, RELATIONS)


def test_other_types_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"asked for from torch.float32 of shape \[2, 3\]"):
        RelationalGraph.of(torch.zeros(2, 3), NODES, RELATIONS)
