"""What is asked while a model learns, and how wrong its answers are."""

import math

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.data.family import family
from spikewright.graph.known import KnownAnswers
from spikewright.graph.negative_sampling import NegativeSampler, TripleBatch, both_ways, known_answers, loss_of

CPU = torch.device("cpu")
DATA = family(trees=2, generations=3)
RELATIONS = len(DATA.relations)


def citations(nodes: int = 9) -> GraphData:
    links = torch.tensor([[n, 0, (n * 3 + 1) % nodes] for n in range(nodes)])
    links = links[links[:, 0] != links[:, 2]]
    names = tuple(map(str, range(nodes)))
    return GraphData("ring", ("link",), *[GraphSplit(links, links, links, names)] * 3, homogeneous=True)


def sampler(data: GraphData = DATA, batch: int = 10, negatives: int = 4, seed: int = 0) -> NegativeSampler:
    return NegativeSampler(data, batch, negatives, seed, CPU)


def rows(batch: TripleBatch) -> list[list]:
    return [t.tolist() for t in (batch.facts, batch.sources, batch.relations, batch.candidates)]


def test_both_ways() -> None:
    sources, kinds, answers = both_ways(torch.tensor([[1, 0, 2], [3, 1, 4]]), 5)
    assert (sources.tolist(), kinds.tolist(), answers.tolist()) == ([1, 3, 2, 4], [0, 1, 5, 6], [2, 4, 1, 3])


def test_every_fact_is_asked_once_an_epoch() -> None:
    facts = sorted(DATA.train.queries.tolist())
    orders = []
    for epoch in range(2):
        batches = list(sampler().epoch(epoch))
        assert len(batches) == len(sampler()) == math.ceil(len(facts) / 10)
        assert [len(b.facts) for b in batches[:-1]] == [10] * (len(batches) - 1)
        orders.append(torch.cat([b.facts for b in batches]).tolist())
        assert sorted(orders[-1]) == facts
    assert orders[0] != orders[1] != DATA.train.queries.tolist()


@pytest.mark.parametrize("size", [10, 7, 1])
def test_the_first_half_of_a_batch_asks_for_tails(size: int) -> None:
    for batch in sampler(batch=size).epoch(0):
        for row, (head, kind, tail) in enumerate(batch.facts.tolist()):
            asked = (int(batch.sources[row]), int(batch.relations[row]), int(batch.candidates[row, 0]))
            tails = row < len(batch.facts) // 2
            assert asked == ((head, kind, tail) if tails else (tail, kind + RELATIONS, head))


def test_wrong_answers_are_no_known_ones() -> None:
    true = {(h, r, t) for h, r, t in DATA.train.known.tolist()}
    true |= {(t, r + RELATIONS, h) for h, r, t in true}
    seen = set()
    for batch in sampler(negatives=40).epoch(0):
        assert batch.candidates.shape == (len(batch.facts), 41)
        for source, kind, (right, *wrong) in zip(
            batch.sources.tolist(), batch.relations.tolist(), batch.candidates.tolist()
        ):
            assert (source, kind, right) in true and not any((source, kind, w) in true for w in wrong)
            seen.update(wrong)
    assert seen == set(range(len(DATA.train.entities)))


def test_the_seed_and_the_epoch_decide_everything() -> None:
    one = [rows(b) for b in sampler(seed=5).epoch(3)]
    torch.manual_seed(99)
    assert one == [rows(b) for b in sampler(seed=5).epoch(3)]
    assert one != [rows(b) for b in sampler(seed=6).epoch(3)] and one != [rows(b) for b in sampler(seed=5).epoch(4)]
    assert len({str(row[3]) for row in one}) == len(one)  # each batch has negatives of its own


@pytest.mark.parametrize("data", [DATA, citations()], ids=["ranked", "pairs"])
def test_an_epoch_can_be_gone_on_with(data: GraphData) -> None:
    whole = [rows(b) for b in sampler(data, batch=3).epoch(1)]
    for start in (0, 1, len(whole) - 1, len(whole)):
        assert [rows(b) for b in sampler(data, batch=3).epoch(1, start)] == whole[start:]


@pytest.mark.parametrize("between", [True, False])
def test_which_edges_a_batch_hides(between: bool) -> None:
    """Strictly, no candidate of any query is next to its source: a direct edge says nothing of the answer."""
    graph, wrong_hidden = graph_of(DATA, DATA.train), 0
    for batch in sampler(negatives=12).epoch(0):
        weights = batch.hidden(graph, between)
        facts = {(h, r, t) for h, r, t in batch.facts.tolist()}
        facts |= {(t, r + RELATIONS, h) for h, r, t in facts}
        asked = {(s, c) for s, row in zip(batch.sources.tolist(), batch.candidates.tolist()) for c in row}
        asked |= {(b, a) for a, b in asked}
        for (source, kind, target), weight in zip(graph.edges.tolist(), weights.tolist()):
            hidden = (source, target) in asked if between else (source, kind, target) in facts
            assert weight == float(not hidden)
            wrong_hidden += hidden and (source, kind, target) not in facts
    assert (wrong_hidden > 100) == between


def test_a_link_comes_with_a_pair_that_is_not_linked() -> None:
    data = citations()
    links = {(h, t) for h, _, t in data.train.facts.tolist()}
    linked = links | {(t, h) for h, t in links}
    asked, others = [], set()
    for epoch in range(20):
        for batch in sampler(data, batch=4).epoch(epoch):
            number = len(batch.facts)
            assert batch.sources.shape == (2 * number,) and batch.candidates.shape == (2 * number, 1)
            assert not batch.relations.any()
            pairs = list(zip(batch.sources.tolist(), batch.candidates[:, 0].tolist()))
            assert pairs[:number] == [(h, t) for h, _, t in batch.facts.tolist()]
            asked += pairs[:number]
            assert not any(p in linked or p[0] == p[1] for p in pairs[number:])
            others.update(pairs[number:])
    assert {p: asked.count(p) for p in links} == dict.fromkeys(links, 20)
    assert len(others) > 0.8 * (81 - 9 - len(linked))


def test_unlinked_pairs_are_equally_likely() -> None:
    """Also where a node is linked to all others, which is in none of them, and its links are asked for."""
    links = torch.tensor([[0, 0, n] for n in range(1, 6)] + [[1, 0, 2], [1, 0, 3]])
    split = GraphSplit(links, links, links, tuple("abcdef"))
    data = GraphData("hub", ("link",), split, split, split, homogeneous=True)
    asked: list[tuple[int, int]] = []
    for epoch in range(300):
        for batch in sampler(data, batch=7).epoch(epoch):
            assert sorted(batch.facts.tolist()) == sorted(links.tolist())
            asked += zip(batch.sources[7:].tolist(), batch.candidates[7:, 0].tolist())
    linked = {(h, t) for h, _, t in links.tolist()} | {(t, h) for h, _, t in links.tolist()}
    free = {(a, b) for a in range(6) for b in range(6) if a != b} - linked
    assert set(asked) == free and len(free) == 16
    share = len(asked) / len(free)
    assert all(abs(asked.count(pair) - share) < 4.5 * math.sqrt(share) for pair in free)


def test_what_everything_answers_is_not_asked() -> None:
    """Node 0 is linked to all by relation 0: nothing is wrong as the tail of these facts."""
    facts = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 2], [2, 1, 0]])
    split = GraphSplit(facts, facts, facts, ("a", "b", "c"))
    data = GraphData("star", ("r", "s"), split, split, split)
    batches = list(NegativeSampler(data, 8, 3, 0, CPU).epoch(0))
    assert sorted(torch.cat([b.facts for b in batches]).tolist()) == [[1, 0, 2], [2, 1, 0]]


@pytest.mark.parametrize(
    "facts", [torch.tensor([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]), torch.zeros(0, 3).long()]
)
def test_a_graph_in_which_nothing_is_false_is_refused(facts: Tensor) -> None:
    split = GraphSplit(facts, facts, facts, ("a", "b"))
    with pytest.raises(ConfigError, match=f"'full' has {len(facts)} training facts, and none has a negative"):
        NegativeSampler(GraphData("full", ("r",), split, split, split), 8, 3, 0, CPU)


def test_a_link_is_known_in_both_directions() -> None:
    known = known_answers(citations(), torch.tensor([[1, 0, 4]]), tuple("abcdefghi"))
    mask = known.mask(torch.tensor([1, 4, 2]), torch.tensor([0, 0, 0]))
    assert [row.nonzero()[:, 0].tolist() for row in mask] == [[1, 4], [1, 4], [2]]
    directed = known_answers(DATA, torch.tensor([[1, 2, 4]]), DATA.train.entities)
    assert isinstance(directed, KnownAnswers)
    asked = directed.mask(torch.tensor([1, 4, 4]), torch.tensor([2, 2 + RELATIONS, 2]))
    assert [row.nonzero()[:, 0].tolist() for row in asked] == [[4], [1], []]


def explicit(scores: list[list[float]], temperature: float) -> float:
    total = 0.0
    for right, *wrong in scores:
        highest = max(wrong)
        raw = [math.exp((w - highest) / temperature) if temperature else 1.0 for w in wrong]
        negative = sum(a / sum(raw) * math.log1p(math.exp(w)) for a, w in zip(raw, wrong))
        total += (math.log1p(math.exp(-right)) + negative) / 2
    return total / len(scores)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 30.0])
def test_the_loss_of_ranked_answers(temperature: float, float64: None) -> None:
    scores = torch.randn(5, 7)
    assert float(loss_of(scores, temperature, False)) == pytest.approx(
        explicit(scores.tolist(), temperature), rel=1e-12
    )


def test_weights_of_wrong_answers_have_no_gradient(float64: None) -> None:
    scores = torch.randn(3, 5, requires_grad=True)
    (found,) = torch.autograd.grad(loss_of(scores, 0.5, False), scores)
    weights = (scores[:, 1:] / 0.5).softmax(1).detach()
    expected = torch.cat([scores[:, :1].sigmoid() - 1, weights * scores[:, 1:].sigmoid()], 1) / 6
    torch.testing.assert_close(found, expected.detach())


def test_the_loss_of_pairs(float64: None) -> None:
    scores = torch.randn(8, 1)
    true, false = scores[:4, 0].tolist(), scores[4:, 0].tolist()
    expected = sum(math.log1p(math.exp(-s)) for s in true) + sum(math.log1p(math.exp(s)) for s in false)
    assert float(loss_of(scores, 0.5, True)) == pytest.approx(expected / 8, rel=1e-12)
