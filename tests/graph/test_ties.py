"""Answers that others are level with: metrics are the mean over all orders of the tied, and chance is chance."""

import math
import statistics
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from spikewright.graph.open_world import KINDS, answer_ranks, rank_metrics, weights
from spikewright.graph.ranking import RankingEvaluator
from spikewright.graph.ties import averaged
from tests.oracles import ranking as oracle

METRICS: dict[str, Callable[[int], float]] = {
    "mr": float,
    "mrr": lambda r: 1 / r,
    "hits_at_1": lambda r: float(r <= 1),
    "hits_at_3": lambda r: float(r <= 3),
}


def few(seed: int) -> tuple[tuple[Tensor, Tensor, Tensor], list[list[int]], list[int]]:
    """Scores, targets and filter of a few queries, their ranks in all orders of the tied, and numbers of rivals."""
    source = torch.Generator().manual_seed(seed)
    scores = torch.randint(3, (12, 5), generator=source).double()
    case = scores, torch.randint(5, (12,), generator=source), torch.rand(12, 5, generator=source) < 0.2
    rows = list(zip(*(t.tolist() for t in case)))
    rivals = [sum(not out for e, out in enumerate(f) if e != t) for _, t, f in rows]
    return case, [oracle.ranks_in_all_orders(*row) for row in rows], rivals


def mean(values: Iterable[float]) -> float:
    return statistics.mean(values)


def test_metrics_are_the_mean_over_all_orders_of_the_tied() -> None:
    case, ranks, candidates = few(0)
    evaluator = RankingEvaluator(hits=(1, 3), sampled=(2, 4))
    evaluator.add(*case)
    assert int(evaluator.tied().max()) >= 2
    found = evaluator.result()
    for name, worth in METRICS.items():
        assert found[name] == pytest.approx(mean(mean(map(worth, r)) for r in ranks), rel=1e-12), name
    for name, rivals in (("hits_at_2_of_4", 3), ("hits_at_2_against_4", 4)):

        def chance(rank: int, of: int, rivals: int = rivals) -> float:
            p = (rank - 1) / of
            return sum(math.comb(rivals, i) * p**i * (1 - p) ** (rivals - i) for i in range(2))

        slow = mean(mean(chance(rank, n) for rank in r) for r, n in zip(ranks, candidates))
        assert found[name] == pytest.approx(slow, rel=1e-12), name


def test_every_metric_of_ranks_is_averaged_in_every_average() -> None:
    """Also by query, and in the intervals."""
    (scores, targets, filtered), orders, _ = few(1)
    answers = torch.zeros_like(filtered).scatter(1, targets[:, None], True)
    ranks, evaluator = answer_ranks(scores, answers, filtered & ~answers), RankingEvaluator()
    evaluator.add(scores, targets, filtered)
    for kind in KINDS:
        worth = weights(torch.arange(1, 6), kind).tolist()
        slow = mean(mean(worth[r - 1] for r in each) for each in orders)
        expected = pytest.approx(slow, rel=1e-12)
        assert ranks.metrics([kind])[kind] == ranks.metrics([kind], "micro")[kind] == expected
        assert rank_metrics(evaluator.ranks(), [kind], torch.arange(12), evaluator.tied())[kind] == expected
        low, high = ranks.interval(kind, torch.Generator().manual_seed(0), resamples=50)
        assert low <= slow <= high


@pytest.mark.parametrize("rivals", [18, 19, 400])
def test_constant_scores_are_as_good_as_chance(rivals: int) -> None:
    """By the mean rank they would find all answers among the first ten with 18 rivals, and none with 19."""
    scores, target = torch.zeros(1, rivals + 1), torch.tensor([0])
    evaluator = RankingEvaluator(sampled=(10, 50))
    evaluator.add(scores, target, torch.zeros_like(scores, dtype=torch.bool))
    found = evaluator.result()
    assert found["hits_at_10"] == pytest.approx(10 / (rivals + 1))
    assert found["mrr"] == pytest.approx(sum(1 / r for r in range(1, rivals + 2)) / (rivals + 1))
    assert found["mr"] == 1 + rivals / 2
    assert found["hits_at_10_of_50"] == pytest.approx(10 / 50, abs=0.6 / rivals)
    assert found["hits_at_10_against_50"] == pytest.approx(10 / 51, abs=0.6 / rivals)
    if rivals < 20:
        assert evaluator.result("realistic")["hits_at_10"] == (rivals == 18)
    assert evaluator.result("optimistic")["hits_at_1"] == 1 and evaluator.result("pessimistic")["mr"] == rivals + 1


def test_answers_that_stand_alone_are_worth_what_their_rank_is() -> None:
    """To the last digit, far down too."""
    ranks, tied = torch.tensor([1.0, 40_000.0, 2.0, 3.5]).double(), torch.tensor([0, 0, 0, 1])
    found = averaged(torch.reciprocal, ranks, tied)
    assert found[:3].tolist() == (1 / ranks[:3]).tolist() and float(found[3]) == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert torch.equal(averaged(torch.reciprocal, ranks), 1 / ranks)
