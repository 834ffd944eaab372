"""Metrics for incomplete graphs, and evaluation with and without the missing facts, against explicit programs."""

import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.graph.consistency import discordant, kendall_tau
from spikewright.graph.open_world import (
    KINDS,
    AnswerRanks,
    answer_ranks,
    density_sweep,
    double_evaluation,
    rank_metrics,
    weights,
)
from spikewright.graph.ranking import RankingEvaluator
from spikewright.graph.ties import Ties
from tests.oracles import ranking as oracle

FROM_STEEP_TO_FLAT = ("mrr", "P3_4", "P2_3", "sqrt", "P1_3", "P1_4")
RANKS = torch.arange(1, 2001, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(seed: int = 0, queries: int = 12, entities: int = 30) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores without ties, and train, test and missing answers; some queries have no test answer."""
    source = seeded(seed)
    scores = torch.rand(queries, entities, generator=source, dtype=torch.float64)
    part = torch.randint(6, (queries, entities), generator=source)
    part[::5][part[::5] == 1] = 3
    return scores, part == 0, part == 1, part == 2


def test_worth_of_a_rank() -> None:
    """Oracle 9: 1 at the top, falling, and the flatter the larger."""
    worth = {kind: weights(RANKS, kind) for kind in KINDS}
    for kind in KINDS:
        assert worth[kind][0] == 1 and bool((worth[kind].diff() <= 0).all())
    for steep, flat in pairwise(FROM_STEEP_TO_FLAT):
        assert bool((worth[steep][1:] < worth[flat][1:]).all())
    assert bool((worth["log"] >= worth["mrr"]).all())
    assert bool((weights(RANKS, "hits_at_3") <= weights(RANKS, "hits_at_4")).all())
    assert weights(RANKS, "hits_at_7").sum() == 7


def test_worth_by_hand() -> None:
    at = torch.tensor([16.0])
    powers = dict(zip(FROM_STEEP_TO_FLAT, (1 / 16, 1 / 8, 16 ** (-2 / 3), 1 / 4, 16 ** (-1 / 3), 1 / 2)))
    for kind, value in {**powers, "log": math.log(2) / math.log(17), "hits_at_15": 0, "hits_at_16": 1}.items():
        assert float(weights(at, kind)) == pytest.approx(value, rel=1e-14), kind


def test_averages() -> None:
    ranks, queries = torch.tensor([1.0, 2.0, 4.0, 4.0]), torch.tensor([0, 0, 0, 3])
    found = AnswerRanks(ranks, queries)
    assert found.metrics(["mrr"], "micro")["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 4) / 4)
    assert found.metrics(["mrr"])["mrr"] == pytest.approx((7 / 12 + 1 / 4) / 2)
    assert list(found.metrics()) == list(KINDS)
    single = rank_metrics(ranks, KINDS, torch.arange(4))  # oracle 11
    assert single == pytest.approx(rank_metrics(ranks, KINDS), rel=1e-14)


def test_both_evaluations_equal_the_explicit_program() -> None:
    scores, train, test, missing = case()
    sets = [[set(row.nonzero()[:, 0].tolist()) for row in mask] for mask in (train, test, missing)]
    slow: tuple[list[tuple[int, int]], ...] = ([], [])
    for query, (easy, hard, hidden) in enumerate(zip(*sets)):
        for found, listed in zip(slow, (hard, hard | hidden if hard else set())):
            ranks = oracle.sorted_ranks(scores[query].tolist(), easy, listed)
            found.extend((query, ranks[entity]) for entity in sorted(listed))
    sparse, full = double_evaluation(scores, train, test, missing)
    for ours, theirs in zip((sparse, full), slow):
        assert list(zip(ours.queries.tolist(), ours.ranks.tolist())) == theirs
    assert 0 < len(sparse.ranks) < len(full.ranks) and len(full.queries.unique()) < len(scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize("ties", get_args(Ties))
def test_answers_rank_as_single_targets_do(ties: Ties, dtype: torch.dtype) -> None:
    source = seeded()
    scores = torch.randint(5, (30, 12), generator=source).to(dtype)
    if dtype.is_floating_point:
        scores[scores == 0], scores[scores == 4] = -torch.inf, torch.inf
    answers, filtered = (torch.rand(30, 12, generator=source) < share for share in (0.3, 0.2))
    ours = answer_ranks(scores, answers, filtered, ties)
    rows, entities = answers.nonzero().unbind(1)
    one_by_one = RankingEvaluator(ties=ties).add(scores[rows], entities, (answers | filtered)[rows])
    assert torch.equal(ours.ranks, one_by_one) and torch.equal(ours.queries, rows)
    evaluator = RankingEvaluator(ties=ties)
    evaluator.add(scores[rows], entities, (answers | filtered)[rows])
    result = evaluator.result()
    assert ours.metrics(["mrr", "hits_at_3"], "micro") == {name: result[name] for name in ("mrr", "hits_at_3")}


def test_a_filter_can_only_help() -> None:
    """Oracle 10."""
    scores, train, test, missing = case(1)
    sparse, full = double_evaluation(scores, train, test, missing)
    of_test = test[(test | missing) & test.any(1, keepdim=True)]
    assert bool((full.ranks[of_test] <= sparse.ranks).all()) and bool((full.ranks[of_test] < sparse.ranks).any())
    fewer = train.clone()
    fewer[:, ::2] = False
    assert bool((answer_ranks(scores, test, fewer).ranks >= sparse.ranks).all())


def test_a_perfect_model_looks_worse_where_facts_are_missing() -> None:
    """Oracle 12, with 4 test and 5 missing answers in every query, in random order."""
    queries, missing_count = 20_000, 5
    scores = torch.rand(queries, 12, generator=seeded(), dtype=torch.float64)
    scores[:, :9] += 1
    entity = torch.arange(12).expand(queries, -1)
    none, test, missing = entity < 0, entity < 4, (entity >= 4) & (entity < 9)
    sparse, full = double_evaluation(scores, none, test, missing)
    assert full.metrics() == dict.fromkeys(KINDS, 1.0)
    expected = sum(1 / k for k in range(1, missing_count + 2)) / (missing_count + 1)
    spread = float((1 / sparse.ranks).reshape(queries, 4).mean(1).std()) / math.sqrt(queries)
    assert sparse.metrics(["mrr"])["mrr"] == pytest.approx(expected, abs=4 * spread)


def test_density_sweep() -> None:
    scores, train, answers, _ = case(2, queries=2000)
    found = density_sweep(scores, train, answers, [0.25, 0.5, 1.0], seeded())
    everything = answer_ranks(scores, answers, train)
    assert torch.equal(found[1.0].ranks, everything.ranks)
    for density in (0.25, 0.5):
        assert len(found[density].ranks) == pytest.approx(density * len(everything.ranks), rel=0.05)
    kept = [set(density_sweep(scores, train, answers, [d], seeded())[d].queries.tolist()) for d in (0.25, 0.5)]
    assert kept[0] < kept[1]
    means = [ranks.metrics(["mrr"])["mrr"] for ranks in found.values()]
    assert means[0] < means[1] < means[2]  # the fewer are hidden, the fewer pass for false


def test_the_interval_resamples_queries_and_not_answers() -> None:
    """With 25 answers of the same rank each, the queries alone decide; the mean of 200 is normal."""
    hit = (torch.arange(200) < 60).double()
    queries = torch.arange(200).repeat_interleave(25)
    ranks = AnswerRanks(torch.where(hit == 1, 1.0, 100.0).repeat_interleave(25), queries)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 200)
    for average in ("macro", "micro"):
        low, high = ranks.interval("hits_at_1", seeded(), average, resamples=4000)
        assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.008)
    narrow = ranks.interval("hits_at_1", seeded(), level=0.5)
    assert 0.3 - half < narrow[0] < 0.3 < narrow[1] < 0.3 + half
    assert ranks.interval("hits_at_1", seeded(5)) == ranks.interval("hits_at_1", seeded(5))


def test_the_interval_weighs_queries_as_the_mean_does() -> None:
    """One query of nine answers at rank 1, one of a single answer at rank 2: each average has its own end points."""
    ranks = AnswerRanks(torch.tensor([1.0] * 9 + [2.0]), torch.tensor([4] * 9 + [8]))
    draws = {"macro": [0.5, 0.75, 1.0], "micro": [0.5, 0.95, 1.0]}
    for average, values in draws.items():
        bounds = {ranks.interval("mrr", seeded(seed), average, resamples=1) for seed in range(20)}
        assert sorted(low for low, _ in bounds) == pytest.approx(values)


def test_agreement_of_curves_by_hand() -> None:
    left, right = torch.tensor([1.0, 2.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 2.0, 0.0])
    # Pairs: two concordant, three discordant, one that the left curve does not separate.
    assert kendall_tau(left, right) == pytest.approx(-1 / math.sqrt(5 * 6))
    assert discordant(left, right) == pytest.approx(3 / 6)
    assert (kendall_tau(right, right), discordant(right, right)) == (1.0, 0.0)
    assert (kendall_tau(right, -right), discordant(right, -right)) == (-1.0, 1.0)
    assert kendall_tau(torch.ones(4), right) is None


def test_scipy_agrees_on_tau() -> None:
    stats = pytest.importorskip("scipy.stats")
    left, right = torch.randint(8, (2, 40), generator=seeded())
    assert kendall_tau(left, right) == pytest.approx(stats.kendalltau(left.numpy(), right.numpy()).statistic, rel=1e-12)


def test_refusals() -> None:
    scores, train, test, missing = case()
    with pytest.raises(ConfigError, match=r"'srqt'.*Did you mean 'sqrt'"):
        weights(RANKS, "srqt")
    for kind in ("hits_at_0", "hits_at_", "hits", "hits_at_x", "x_3"):
        with pytest.raises(ConfigError, match="no ranking metric"):
            weights(RANKS, kind)
    for rank in (0.0, torch.nan):
        with pytest.raises(InputError, match="ranks begin at 1"):
            weights(torch.tensor([2.0, rank]), "mrr")
    with pytest.raises(InputError, match="no ranks"):
        rank_metrics(torch.zeros(0))
    with pytest.raises(ShapeError, match="'missing' is"):
        double_evaluation(scores, train, test, missing[1:])
    with pytest.raises(ConfigError, match=r"tie rule 'optimist'.*Did you mean 'optimistic'"):
        answer_ranks(scores, test, train, "optimist")  # type: ignore[arg-type]
    broken = scores.clone()
    broken[2, 4] = torch.nan
    with pytest.raises(InputError, match="entity 4 for query 2"):
        answer_ranks(broken, test, train)
    for density in (0.0, 1.5):
        with pytest.raises(ConfigError, match="share of"):
            density_sweep(scores, train, test, [density], seeded())
    with pytest.raises(ConfigError, match="level 95"):
        answer_ranks(scores, test, train).interval("mrr", seeded(), level=95)
    with pytest.raises(InputError, match="over 0 answers"):
        answer_ranks(scores, test & False, train).interval("mrr", seeded())
    with pytest.raises(ShapeError, match=r"\[3\] and \[2\]"):
        kendall_tau(torch.zeros(3), torch.zeros(2))
    with pytest.raises(InputError, match="1 points"):
        discordant(torch.zeros(1), torch.zeros(1))
    with pytest.raises(InputError, match="not finite"):
        discordant(torch.tensor([0, torch.nan]), torch.zeros(2))
