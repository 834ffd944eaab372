"""Evaluation, against a loop over triples, and energy counted spike by spike."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright.graph._evaluate import evaluate, graph_of
from spikewright.graph.data import GraphData, GraphSplit, load_graph
from spikewright.graph.data.family import family
from spikewright.graph.models import GRSNN, LinkScorer
from spikewright.graph.negative_sampling import known_answers, pairs
from spikewright.graph.open_world import KINDS
from tests.graph.data.writing import write
from tests.graph.test_negative_sampling import citations

DATA = family(trees=2, generations=3)
RELATIONS = len(DATA.relations)
SHARES = {"optimistic": 0.0, "realistic": 0.5, "expected": 0.5, "pessimistic": 1.0}


def model_of(relations: int = 2 * RELATIONS, seed: int = 0, **options: Any) -> GRSNN:
    """Whose scores are exact, in whatever order they are computed, and often level, since spikes are few."""
    torch.manual_seed(seed)
    model = GRSNN(relations, width=3, steps=8, decay=1.0, scale=4.0, **options)
    with torch.no_grad():
        for parameter in (*model.query.parameters(), *model.readout.parameters()):
            parameter.mul_(64).round_().div_(64)
    return model


class Ranks:
    """The rank of every test answer in both directions, one triple at a time, and the query it belongs to."""

    def __init__(self, model: LinkScorer, data: GraphData, ties: str, part: str = "test") -> None:
        split: GraphSplit = getattr(data, part)
        known = {tuple(t) for t in split.known.tolist()}
        self.ranks: list[float] = []
        self.queries: list[tuple[int, int]] = []
        graph, relations = graph_of(data, split), len(data.relations)
        self.others: list[int] = []
        self.possible: list[list[float]] = []
        for head, kind, tail in split.queries.tolist():
            for source, relation, answer in ((head, kind, tail), (tail, kind + relations, head)):
                with torch.no_grad():
                    scores = model(graph, torch.tensor([source]), torch.tensor([relation]))[0].tolist()
                rivals = []
                for node, score in enumerate(scores):
                    fact = (source, kind, node) if relation == kind else (node, kind, source)
                    if node != answer and fact not in known:
                        rivals.append(score)
                above, level = (sum(op(r) for r in rivals) for op in (scores[answer].__lt__, scores[answer].__eq__))
                self.ranks.append(1 + above + SHARES[ties] * level)
                places = [float(1 + above + n) for n in range(level + 1)]
                self.possible.append(places if ties == "expected" else [self.ranks[-1]])
                self.queries.append((source, relation))
                self.others.append(len(rivals))

    def result(self, prefix: str = "") -> dict[str, float]:
        """Averages over answers, or with the prefix `macro_` over queries."""
        groups = self.queries if prefix else range(len(self.ranks))
        found = {}
        worth = {"mr": lambda r: r, "mrr": lambda r: 1 / r}
        worth |= {f"hits_at_{k}": lambda r, k=k: float(r <= k) for k in (1, 3, 10)}
        for name, value in worth.items():
            by_group: dict = {}
            for ranks, group in zip(self.possible, groups):
                by_group.setdefault(group, []).append(sum(map(value, ranks)) / len(ranks))
            means = [sum(values) / len(values) for values in by_group.values()]
            found[prefix + name] = sum(means) / len(means)
        return found


@pytest.mark.parametrize("ties", SHARES)
def test_it_is_what_a_loop_over_triples_finds(ties: str) -> None:
    model = model_of()
    found = evaluate(model, DATA, DATA.test, ties=ties)  # type: ignore[arg-type]
    slow = Ranks(model, DATA, ties)
    expected = slow.result() | slow.result("macro_") | {"count": len(slow.ranks)}
    others = {t: Ranks(model, DATA, t).result() for t in SHARES if t != ties}
    expected |= {f"{name}_{t}": value for t, values in others.items() for name, value in values.items()}
    expected.pop("macro_mr")
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert found.keys() - expected.keys() == {f"macro_{kind}" for kind in set(KINDS) - {"mrr"}} - expected.keys()
    assert abs(found["macro_mrr"] - found["mrr"]) > 1e-6 and len(set(slow.queries)) < len(slow.queries)
    if ties == "expected":
        assert found["mrr_pessimistic"] < found["mrr_realistic"] < found["mrr"] < found["mrr_optimistic"]


@pytest.mark.parametrize("batch", [1, 3, 7, 1000])
def test_queries_at_a_time_change_nothing(batch: int) -> None:
    model = model_of()
    assert evaluate(model, DATA, DATA.test, batch=batch) == pytest.approx(evaluate(model, DATA, DATA.test), rel=1e-12)


def test_a_query_is_asked_once() -> None:
    """However many answers it has."""
    model, asked = model_of(), []
    forward = model.forward
    model.forward = lambda graph, sources, kinds: asked.append((sources, kinds)) or forward(graph, sources, kinds)  # type: ignore[method-assign, assignment]
    evaluate(model, DATA, DATA.test, batch=5)
    found = [pair for sources, kinds in asked for pair in zip(sources.tolist(), kinds.tolist())]
    assert len(set(found)) == len(found) and set(found) == set(Ranks(model_of(), DATA, "expected").queries)
    assert max(len(sources) for sources, _ in asked) == 5


def test_the_mode_of_the_model_is_put_back() -> None:
    model = model_of().train()
    seen = []
    model.readout.register_forward_hook(lambda module, x, y: seen.append((module.training, torch.is_grad_enabled())))
    evaluate(model, DATA, DATA.valid)
    assert model.training and set(seen) == {(False, False)}


def test_constant_scores_rank_in_the_middle() -> None:
    """Oracle 11: with ties to the last, the rank is the number of candidates."""
    model = model_of()
    with torch.no_grad():
        model.readout[2].weight.zero_()
    slow = Ranks(model, DATA, "pessimistic")
    assert slow.ranks == [1 + n for n in slow.others]
    assert evaluate(model, DATA, DATA.test, ties="pessimistic")["mr"] == pytest.approx(
        sum(slow.ranks) / len(slow.ranks)
    )
    chance = sum(min(10 / (n + 1), 1) for n in slow.others) / len(slow.others)
    assert evaluate(model, DATA, DATA.test)["hits_at_10"] == pytest.approx(chance, rel=1e-12)
    assert evaluate(model, DATA, DATA.test, ties="optimistic")["hits_at_1"] == 1


def test_the_filter_can_only_help() -> None:
    """Oracle 11."""
    model = model_of()
    raw = replace(DATA, test=replace(DATA.test, known=DATA.test.known[:0]))
    filtered, unfiltered = Ranks(model, DATA, "expected").ranks, Ranks(model, raw, "expected").ranks
    assert all(a <= b for a, b in zip(filtered, unfiltered)) and filtered != unfiltered
    assert evaluate(model, raw, raw.test)["mrr"] < evaluate(model, DATA, DATA.test)["mrr"]


def test_an_inductive_split_is_asked_on_its_own_graph(tmp_path: Path) -> None:
    write(tmp_path / "fb237_v1")
    names = [f"e{n}" for n in range(14)]
    lines = [f"{a}\t{'knows' if n % 3 else 'likes'}\t{b}\n" for n, (a, b) in enumerate(zip(names, names[3:] + names))]
    parts = {"train": "".join(lines[:16]), "valid": "e1\thates\te9\n", "test": "e2\tknows\te7\ne8\thates\te0\n"}
    write(tmp_path / "fb237_v1_ind", parts)
    data, model = load_graph("fb237_v1", tmp_path), model_of(6, seed=5)
    found = evaluate(model, data, data.test, sampled=True)
    for ties, suffix in (("expected", ""), ("pessimistic", "_pessimistic")):
        slow = Ranks(model, data, ties)
        assert {k: found[k + suffix] for k in slow.result()} == pytest.approx(slow.result(), rel=1e-12)
        for name, rivals in (("of", 49), ("against", 50)):
            chances = []
            for ranks, others in zip(slow.possible, slow.others):
                shares = [(rank - 1) / others for rank in ranks]
                found_by = [
                    sum(math.comb(rivals, k) * p**k * (1 - p) ** (rivals - k) for k in range(10)) for p in shares
                ]
                chances.append(sum(found_by) / len(found_by))
            expected = sum(chances) / len(chances)
            assert found[f"hits_at_10_{name}_50{suffix}"] == pytest.approx(expected, rel=1e-9)
            assert 0.05 < expected < 0.98
    assert not any("50" in name for name in evaluate(model, data, data.test))


def auc(true: Tensor, false: Tensor) -> float:
    return float(((true[:, None] > false).double() + (true[:, None] == false) / 2).mean())


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_links_are_told_from_pairs_that_are_none(batch: int) -> None:
    data = citations(15)
    model = model_of(1, dependent=False, symmetric=True, seed=6)
    found = evaluate(model, data, data.test, batch=batch)
    assert found.keys() == {"auroc", "average_precision", "count"} and found["count"] == 2 * len(data.test.queries)
    known = known_answers(data, data.test.known, data.test.entities)
    sources, kinds, nodes = pairs(data.test.queries, known, keyed_generator(0))
    graph = graph_of(data, data.test)
    with torch.no_grad():
        scores = torch.cat([model(graph, *row)[0] for row in zip(sources[:, None], kinds[:, None], nodes[:, None])])
    true, false = scores.chunk(2)
    assert found["auroc"] == pytest.approx(auc(true, false), rel=1e-9)
    precisions = [float((true >= at).sum() / (scores >= at).sum()) for at in true]
    assert found["average_precision"] == pytest.approx(sum(precisions) / len(precisions), rel=1e-6)
    assert len(scores.unique()) > 3 and 0.1 < found["auroc"] < 0.95


def test_messages_travel_along_the_facts_of_a_split() -> None:
    graph, links = graph_of(DATA, DATA.test), graph_of(citations(), citations().test)
    assert (graph.nodes, graph.relations) == (len(DATA.test.entities), 2 * RELATIONS)
    assert len(graph.pairs) == 2 * len(DATA.test.facts)
    assert links.relations == 1 and len(links.pairs) == 2 * len(citations().test.facts) + 9
