"""The models: against explicit programs, and what has to hold for any graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from spikewright.errors import ConfigError
from spikewright.graph.models import GRSNN, LinkScorer, NBFNet
from spikewright.graph.structure import RelationalGraph
from spikewright.kernels import native
from tests.oracles import grsnn, nbfnet

Build = Callable[..., GRSNN | NBFNet]
SOURCES, KINDS = torch.tensor([0, 3, 3, 5]), torch.tensor([1, 0, 3, 3])
"""Four queries, two of them from one node."""


def spiking(relations: int = 4, **options: Any) -> GRSNN:
    torch.manual_seed(1)
    model = GRSNN(relations, **{"width": 6, "steps": 8, "scale": 4.0, **options})
    if model.aggregate == "pna":
        torch.nn.init.normal_(model.synapse.weight, std=0.3)
    return model


def layered(relations: int = 4, **options: Any) -> NBFNet:
    torch.manual_seed(1)
    return NBFNet(relations, **{"width": 6, "layers": 3, **options})


MODELS: dict[str, Build] = {
    "grsnn": spiking,
    "grsnn, independent": lambda relations=4, **o: spiking(relations, dependent=False, **o),
    "grsnn+": lambda relations=4, **o: spiking(relations, weighted=True, self_loops=True, layer_norm=True, **o),
    "grsnn+, pna": lambda relations=4, **o: spiking(
        relations, weighted=True, self_loops=True, layer_norm=True, aggregate="pna", **o
    ),
    "nbfnet, sum": lambda relations=4, **o: layered(relations, aggregate="sum", **o),
    "nbfnet, pna": lambda relations=4, **o: layered(relations, aggregate="pna", **o),
    "nbfnet, independent": lambda relations=4, **o: layered(relations, aggregate="sum", dependent=False, **o),
}
BUILDS = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
SPIKING = pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("grsnn")])


def facts(seed: int = 0, nodes: int = 6, number: int = 14) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(nodes, (number, 3), generator=generator)
    rows[:, 1] %= 2
    return rows.unique(dim=0)


def graph_of(rows: Tensor, nodes: int = 7) -> RelationalGraph:
    """Two relations and their inverses; the last of seven nodes has no edge."""
    return RelationalGraph.of(rows, nodes, 2)


def scored(model: LinkScorer, graph: RelationalGraph, **options: Any) -> Tensor:
    return model(graph, SOURCES, KINDS, **options)


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: GRSNN(474), 520_993),
        (lambda: GRSNN(22), 29_217),
        (lambda: GRSNN.plus(474, aggregate="pna"), 1_033_889),
        (lambda: GRSNN.plus(22), 53_537),
        (lambda: GRSNN(1, dependent=False, symmetric=True), 5_345),
        (lambda: NBFNet(474), 3_103_105),
        (lambda: NBFNet(22, dependent=False), 89_601),
        (lambda: NBFNet(1, dependent=False, symmetric=True), None),
        *[(lambda r=r: GRSNN(2 * r), n) for r, n in [(180, 396_961), (200, 440_481), (215, 473_121), (219, 481_825)]],
        *[(lambda r=r: GRSNN(2 * r), n) for r, n in [(9, 24_865), (10, 27_041), (11, 29_217), (9, 24_865)]],
    ],
)
def test_number_of_parameters(build: Callable[[], LinkScorer], count: int | None) -> None:
    """Oracle 10."""
    model = build()
    width, relations = model.width, model.relations
    rest = relations * width + (2 * width) ** 2 + 2 * width + 2 * width + 1
    found = sum(p.numel() for p in model.parameters())
    if count is not None:
        assert found == count
    else:
        assert found == rest + 6 * (relations * width + 13 * width * width + width + 2 * width)


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("aggregate", ["sum", "pna"])
def test_nbfnet_is_the_explicit_program(float64: None, aggregate: str, dependent: bool) -> None:
    """Scores and the gradients of all parameters."""
    # Some edges are parallel; a node without messages has no extremes in the program.
    rows = torch.cat([facts(), facts()[:3], torch.tensor([[6, 0, 1]])])
    model, graph = layered(aggregate=aggregate, dependent=dependent), graph_of(rows)
    parameters = dict(model.named_parameters())
    edges = [tuple(e) for e in graph.edges.tolist()]
    ours = scored(model, graph)
    theirs = nbfnet.run(
        parameters, edges, 7, SOURCES.tolist(), KINDS.tolist(), pna=aggregate == "pna", dependent=dependent
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert ours.std() > 1e-2
    readout = torch.randn(ours.shape)
    mine, other = (torch.autograd.grad((s * readout).sum(), list(parameters.values())) for s in (ours, theirs))
    for name, a, b in zip(parameters, mine, other):
        assert b.abs().max() > 1e-6 or name.endswith("readout.0.bias"), name
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("aggregate", ["sum", "pna"])
def test_the_gradient_of_nbfnet_is_the_slope_of_its_scores(float64: None, aggregate: str) -> None:
    model, graph = layered(aggregate=aggregate), graph_of(facts())
    edge_weight = torch.rand(len(graph.pairs)) + 0.5
    if aggregate == "sum":
        edge_weight.requires_grad_()
    readout = torch.randn(len(SOURCES), 7)
    inputs = [*model.parameters(), *([edge_weight] if edge_weight.requires_grad else [])]

    def loss() -> Tensor:
        return (scored(model, graph, edge_weight=edge_weight) * readout).sum()

    for what, gradient in zip(inputs, torch.autograd.grad(loss(), inputs)):
        toward, moved = torch.randn(what.shape), []
        with torch.no_grad():
            for by in (1e-6, -2e-6):
                what += by * toward
                moved.append(loss().item())
            what += 1e-6 * toward
        numeric = (moved[0] - moved[1]) / 2e-6
        assert (gradient * toward).sum().item() == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def explicit(model: GRSNN, graph: RelationalGraph, mode: str) -> Tensor:
    """Scores of all nodes by the explicit program; for principal aggregation every pair sends to a node of its own."""
    query = model.query(KINDS) * model.dynamics.threshold / 2 + model.dynamics.threshold / 2
    width, nodes, relations = model.width, graph.nodes, graph.relations
    pna = model.aggregate == "pna"

    def by_relation(of: torch.nn.Module) -> Tensor:
        if isinstance(of, torch.nn.Embedding):
            return of.weight.unsqueeze(1).expand(relations, len(query), width)
        table = query @ of.weight.T + of.bias  # type: ignore[operator]
        return torch.stack([table[:, r * width : (r + 1) * width] for r in range(relations)])

    def synapses(arrived: Tensor, last: Tensor) -> Tensor:
        inputs = arrived[:nodes]
        if pna:
            sent = arrived[nodes:]
            columns = [
                nbfnet.principal(
                    [
                        [sent[p, b] for p, t in zip(graph.pairs.tolist(), graph.targets.tolist()) if t == node]
                        for node in range(nodes)
                    ],
                    None,
                )
                for b in range(len(query))
            ]
            inputs = torch.stack(columns, 1)
        if model.self_loops:
            inputs = torch.cat([last[:nodes], inputs], -1)
        x = model.scale * (inputs @ model.synapse.weight.T + model.synapse.bias)
        if model.norm is not None:
            x = layer_norm(x, [width], model.norm.weight, model.norm.bias)
        return x if not pna else torch.cat([x, torch.zeros_like(arrived[nodes:])])

    edges, total = graph.edges, nodes
    if pna:
        numbers = torch.arange(len(graph.sources)) + nodes
        edges, total = torch.stack([graph.sources, graph.kinds, numbers], 1), nodes + len(numbers)
    delays = model.max_delay * torch.sigmoid(by_relation(model.delay.of))
    read, _ = grsnn.run(
        *(edges, total, SOURCES, query, delays, synapses),
        weights=None if model.weight is None else by_relation(model.weight.of),
        steps=model.dynamics.steps,
        mode=mode,
    )
    weights = dict(model.named_parameters())
    return torch.stack([nbfnet.score(weights, read[:nodes, b], query[b]) for b in range(len(query))])


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
@pytest.mark.parametrize(("mode", "longest"), [("exact", 4), ("reference", 6)])
@SPIKING
def test_grsnn_is_the_explicit_program(
    float64: None, monkeypatch: pytest.MonkeyPatch, name: str, mode: str, longest: int, compiled: bool
) -> None:
    """Scores and the gradients of all parameters."""
    if not compiled:
        monkeypatch.setattr(native, "available", lambda x: False)
    elif not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")
    rows = torch.cat([facts(), facts()[:3], torch.tensor([[6, 0, 1]])])
    model, graph = MODELS[name](delay_grad=mode, max_delay=longest), graph_of(rows)
    assert isinstance(model, GRSNN)
    ours, theirs = scored(model, graph), explicit(model, graph, mode)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    rate = model.spikes(graph, SOURCES, KINDS)[1:].double().mean()
    assert 0.05 < rate < 0.6 and ours.std() > 1e-3
    readout, parameters = torch.randn(ours.shape), dict(model.named_parameters())
    mine, other = (torch.autograd.grad((s * readout).sum(), list(parameters.values())) for s in (ours, theirs))
    for key, a, b in zip(parameters, mine, other):
        assert b.abs().max() > 1e-6, key
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@BUILDS
def test_numbers_of_nodes_mean_nothing(float64: None, build: Build) -> None:
    """Oracle 6."""
    model, rows, order = build(), facts(), torch.tensor([4, 2, 6, 0, 1, 5, 3])
    moved = torch.stack([order[rows[:, 0]], rows[:, 1], order[rows[:, 2]]], 1)
    one, other = model(graph_of(rows), SOURCES, KINDS), model(graph_of(moved), order[SOURCES], KINDS)
    torch.testing.assert_close(one, other[:, order], rtol=0, atol=1e-12)
    assert one.std() > 1e-3


@BUILDS
def test_the_score_of_what_is_not_reached_depends_on_the_query_alone(float64: None, build: Build) -> None:
    """Oracle 6, with two parts of a graph that no edge links."""
    model, rows = build(), facts()
    with torch.no_grad():
        for module in model.modules():  # what has a bias makes something out of nothing
            if isinstance(module, torch.nn.Linear) and module is not model.readout[0]:
                module.bias.zero_()
    apart = torch.cat([rows, rows.index_select(1, torch.arange(3)) + torch.tensor([6, 0, 6])])
    graph = graph_of(apart, 12)
    found = model(graph, torch.tensor([0, 3, 7]), torch.tensor([1, 1, 1]))
    unreached = torch.stack([found[0, 6:], found[1, 6:], found[2, :6]])
    if model.aggregate == "pna":  # where it also depends on how many edges a node has
        torch.testing.assert_close(unreached, unreached[:1].expand_as(unreached), rtol=0, atol=1e-12)
    else:
        torch.testing.assert_close(unreached, unreached[0, 0].expand_as(unreached), rtol=0, atol=1e-12)
    assert found[0, :6].std() > 1e-3
    assert (model(graph, torch.tensor([0]), torch.tensor([2]))[0, 6] - found[0, 6]).abs() > 1e-4


@BUILDS
def test_an_edge_of_weight_zero_is_not_there(float64: None, build: Build) -> None:
    """Oracle 10; here for every aggregate, since what is taken out counts nowhere."""
    model, rows = build(), facts()
    graph = graph_of(rows)
    hidden = rows[[2, 5, 7]]
    rest = rows[~(rows[:, None] == hidden).all(2).any(1)]
    without, less = scored(model, graph, edge_weight=graph.without(hidden)), scored(model, graph_of(rest))
    torch.testing.assert_close(without, less, rtol=0, atol=1e-12)
    assert not torch.allclose(without, scored(model, graph))
    torch.testing.assert_close(scored(model, graph), scored(model, graph, edge_weight=torch.ones(len(graph.pairs))))


@BUILDS
def test_candidates_are_some_of_all_nodes(float64: None, build: Build) -> None:
    model, graph = build(), graph_of(facts())
    some = torch.tensor([[0, 6, 2], [1, 1, 5], [3, 4, 0], [6, 6, 6]])
    torch.testing.assert_close(scored(model, graph, candidates=some), scored(model, graph).gather(1, some))


@pytest.mark.parametrize("name", ["grsnn, independent", "nbfnet, sum"])
def test_a_pair_is_scored_from_both_ends(float64: None, name: str) -> None:
    rows = facts()
    links = torch.stack([rows[:, 0], torch.zeros_like(rows[:, 0]), rows[:, 2]], 1).unique(dim=0)
    graph, build = RelationalGraph.undirected(links, 7), MODELS[name]
    both, one = build(1, symmetric=True), build(1)
    pairs = torch.tensor([[0, 4], [2, 5], [4, 0], [6, 1]])
    nothing = torch.zeros(4, dtype=torch.int64)
    found = both(graph, pairs[:, 0], nothing, pairs[:, 1:])[:, 0]
    assert torch.allclose(found[0], found[2])
    query = one.query_vector(nothing)
    ends = [one.node_features(graph, pairs[:, i], query, None)[pairs[:, 1 - i], torch.arange(4)] for i in (0, 1)]
    expected = one.readout(torch.cat([(ends[0] + ends[1]) / 2, query], 1))[:, 0]
    torch.testing.assert_close(found, expected)
    everything = both(graph, pairs[:, 0], nothing)
    torch.testing.assert_close(everything.gather(1, pairs[:, 1:])[:, 0], found)
    assert not torch.allclose(found, one(graph, pairs[:, 0], nothing, pairs[:, 1:])[:, 0])


def test_delays_of_queries() -> None:
    """Oracle 6: independent ones are the same for all; all lie between 0 and the longest."""
    free, bound = spiking(dependent=False, max_delay=3), spiking(max_delay=5)
    for model, longest in ((free, 3), (bound, 5)):
        delays = model.delays(KINDS)
        assert delays.shape == (4, 4, 6) and 0 < delays.min() and delays.max() < longest
        assert delays.max() > longest / 2
    alike = free.delays(KINDS)
    assert torch.equal(alike, alike[:, :1].expand_as(alike)) and alike.std(0).max() > 0.1
    found = bound.delays(KINDS)
    assert torch.equal(found[:, 2], found[:, 3]) and not torch.equal(found[:, 0], found[:, 1])


def test_without_delays_all_edges_cost_one_step() -> None:
    """Oracle 5: whatever the relation, spikes move one edge a step."""
    chain = torch.tensor([[n, n % 2, n + 1] for n in range(5)])
    model = spiking(max_delay=0, scale=1.0)
    with torch.no_grad():
        model.synapse.weight.copy_(3.5 * torch.eye(6))
        model.synapse.bias.zero_()
        model.query.weight.fill_(1.5)
    fired = model.spikes(graph_of(chain, 6), torch.tensor([0]), torch.tensor([0]))
    first = fired[:, :, 0].int().argmax(0)
    assert fired.any(0).all() and first.tolist() == [[n] * 6 for n in range(6)]


def gradients(
    model: LinkScorer, graph: RelationalGraph, queries: tuple[Tensor, Tensor], edge_weight: Tensor
) -> list[Tensor]:
    """Scores, and gradients of what they depend on."""
    edge_weight = edge_weight.clone()
    found = model(graph, *queries, edge_weight=edge_weight)
    generator = torch.Generator().manual_seed(0)
    readout = torch.randn(found.shape, generator=generator, dtype=found.dtype)
    slopes = torch.autograd.grad((found * readout).sum(), list(model.parameters()), allow_unused=True)
    return [found, *(torch.zeros(()) if s is None else s for s in slopes)]


ONE = (torch.tensor([0]), torch.tensor([1]))
CASES = {
    "four queries": (facts(), 7, (SOURCES, KINDS)),
    "one query": (facts(1), 7, ONE),
    "a source twice": (facts(), 7, (torch.tensor([2, 2]), torch.tensor([1, 1]))),
    "one node": (torch.tensor([[0, 0, 0], [0, 1, 0]]), 1, ONE),
    "no edges": (facts()[:0], 7, (SOURCES, KINDS)),
    "one node without edges": (facts()[:0], 1, ONE),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
@BUILDS
def test_compiled_and_plain_kernels_agree(
    build: Build, case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native.available(torch.zeros(1)):
        pytest.skip("no compiled kernels here")
    rows, nodes, queries = CASES[case]
    graph, model = graph_of(rows, nodes), build().to(dtype)
    edge_weight = (torch.rand(len(graph.pairs), generator=torch.Generator().manual_seed(2)) > 0.2).to(dtype)
    compiled = gradients(model, graph, queries, edge_weight)
    monkeypatch.setattr(native, "available", lambda x: False)
    plain = gradients(model, graph, queries, edge_weight)
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(compiled[0], plain[0], rtol=tolerance, atol=tolerance)
    assert compiled[0].isfinite().all() and compiled[0].dtype == dtype
    if model.aggregate == "sum" or isinstance(model, NBFNet):  # else equal extremes share a gradient or not
        for one, other in zip(compiled[1:], plain[1:]):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1.0, float(other.abs().max())))
    if case == "a source twice":
        torch.testing.assert_close(compiled[0][0], compiled[0][1], rtol=tolerance, atol=tolerance)


@BUILDS
def test_frozen_weights_leave_the_gradient_of_edges(float64: None, build: Build) -> None:
    """What explains a score asks for nothing but the gradient of edges."""
    model, graph = build(), graph_of(facts())
    if model.aggregate == "pna" and isinstance(model, GRSNN):
        pytest.skip("extremes of spikes have no gradient for edges")
    found = []
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        edge_weight = torch.ones(len(graph.pairs), requires_grad=True)
        found += torch.autograd.grad(scored(model, graph, edge_weight=edge_weight).sum(), [edge_weight])
    assert torch.equal(*found) and found[0].abs().max() > 1e-6


@pytest.mark.parametrize("relations", [3, 5])
def test_a_graph_with_other_relations_is_refused(relations: int) -> None:
    graph = RelationalGraph.of_edges(torch.tensor([[0, 0, 1]]), 7, relations)
    with pytest.raises(ConfigError, match=rf"has {relations} relations \(inverse ones included\), the model 4"):
        scored(spiking(), graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_delay": 7}, r"max_delay=7.*from 0 to 6"),
        ({"max_delay": -1}, "max_delay=-1"),
        ({"steps": 0}, "at least one step"),
        ({"tau": 0.0}, "tau=0.0.* above 0"),
        ({"threshold": -1.0}, "threshold=-1.0.* above 0"),
        ({"decay": 1.1}, r"decay=.*a number in \(0, 1\]"),
        ({"decay": 0.0}, r"decay=.*a number in \(0, 1\]"),
        ({"aggregate": "mean"}, "aggregate='mean'. is unknown. Known: pna, sum"),
        ({"delay_grad": "none"}, "Known: exact, finite_difference, reference"),
        ({"width": 0}, "width=0"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GRSNN(4, **options)


@pytest.mark.parametrize("options", [{"layers": 0}, {"aggregate": "mean"}])
def test_nbfnet_refuses_too(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"layers=0|aggregate='mean'. is unknown"):
        NBFNet(4, **options)
    with pytest.raises(ConfigError, match="relations=0"):
        NBFNet(0)
