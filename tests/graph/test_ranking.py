"""Filtered ranks, areas under curves and known answers, against explicit programs."""

import math
import random
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.graph.classification import auroc, average_precision
from spikewright.graph.ranking import RankingEvaluator, sampled_hits
from spikewright.graph.ties import Ties
from tests.oracles import ranking as oracle

TIES = get_args(Ties)


def case(seed: int, queries: int = 40, entities: int = 12, levels: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with many ties and some infinities, targets, and a filter that marks the target now and then."""
    source = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (queries, entities), generator=source).double()
    scores[scores == 0], scores[scores == levels - 1] = -torch.inf, torch.inf
    targets = torch.randint(entities, (queries,), generator=source)
    return scores, targets, torch.rand(queries, entities, generator=source) < 0.4


def ranks_of(case: tuple[Tensor, Tensor, Tensor], **options: Any) -> Tensor:
    return RankingEvaluator(**options).add(*case)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(3))
def test_ranks_equal_the_explicit_program(ties: Ties, seed: int) -> None:
    scores, targets, filtered = case(seed)
    rows = zip(scores.tolist(), targets.tolist(), filtered.tolist())
    slow = [oracle.filtered_rank(*row, ties) for row in rows]
    ranks = ranks_of((scores, targets, filtered), ties=ties)
    assert (ranks.dtype, ranks.tolist()) == (torch.float64, slow)


def test_a_target_is_kept_whether_it_is_marked_or_not() -> None:
    scores, targets, filtered = case(0)
    for mark in (True, False):
        marked = filtered.scatter(1, targets[:, None], mark)
        assert torch.equal(ranks_of((scores, targets, marked)), ranks_of((scores, targets, filtered)))


def test_by_reference_an_unmarked_target_beats_itself() -> None:
    scores, targets, filtered = case(1)
    for mark in (True, False):
        marked = filtered.scatter(1, targets[:, None], mark)
        slow = [oracle.counting_itself(s, t, f) for s, t, f in zip(scores.tolist(), targets.tolist(), marked.tolist())]
        assert ranks_of((scores, targets, marked), ties="pessimistic", reference=True).tolist() == slow
    evaluator = RankingEvaluator(ties="pessimistic", sampled=(1, 2), reference=True)
    evaluator.add(torch.tensor([[2.0, 1.0, 0.0, 0.0]]), torch.tensor([0]), torch.zeros(1, 4, dtype=torch.bool))
    assert evaluator.result() == {
        "mr": 2, "mrr": 0.5, "hits_at_1": 0, "hits_at_3": 1, "hits_at_10": 1, "count": 1,
        "hits_at_1_of_2": 3 / 4, "hits_at_1_against_2": 9 / 16,
    }  # fmt: skip


@given(st.integers(0, 1000), st.sampled_from(TIES))
@pytest.mark.long
def test_properties_of_ranks(seed: int, ties: Ties) -> None:
    scores, targets, filtered = case(seed, queries=8)
    ranks = ranks_of((scores, targets, filtered), ties=ties)
    raw = ranks_of((scores, targets, torch.zeros_like(filtered)), ties=ties)
    assert bool((ranks <= raw).all()) and bool((ranks >= 1).all())
    assert bool((ranks <= scores.shape[1] - filtered.scatter(1, targets[:, None], False).sum(1)).all())
    order = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed))
    permuted = scores[:, order], order.argsort()[targets], filtered[:, order]
    assert torch.equal(ranks_of(permuted, ties=ties), ranks)
    assert torch.equal(ranks_of((scores.atan() * 3 - 1, targets, filtered), ties=ties), ranks)
    better = scores.scatter_add(1, targets[:, None], torch.ones(len(targets), 1, dtype=scores.dtype))
    assert bool((ranks_of((better, targets, filtered), ties=ties) <= ranks).all())


@pytest.mark.parametrize("ties, rank", [("optimistic", 1.0), ("realistic", 3.5), ("pessimistic", 6.0)])
def test_constant_scores(ties: Ties, rank: float) -> None:
    filtered = torch.tensor([[True, True, False, False, False, False, False]])
    target = torch.tensor([0])
    assert ranks_of((torch.full((1, 7), -torch.inf), target, filtered), ties=ties).tolist() == [rank]
    assert ranks_of((torch.zeros(1, 7, dtype=torch.int64), target, filtered), ties=ties).tolist() == [rank]


def test_one_entity_and_no_candidate() -> None:
    evaluator = RankingEvaluator(sampled=(10, 50))
    alone = evaluator.add(torch.zeros(1, 1), torch.tensor([0]), torch.zeros(1, 1, dtype=torch.bool))
    none = evaluator.add(torch.zeros(1, 3), torch.tensor([1]), torch.ones(1, 3, dtype=torch.bool))
    nobody = evaluator.add(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.bool))
    assert [alone.tolist(), none.tolist(), nobody.tolist()] == [[1], [1], []]
    result = evaluator.result()
    assert result.pop("count") == 2
    assert set(result.values()) == {1.0}


def test_averages_by_hand() -> None:
    """Ranks 1, 2, 4 of one group and 11 of another, in two batches."""
    micro, macro = RankingEvaluator(), RankingEvaluator(average="macro")
    scores = -torch.arange(12.0).expand(4, 12)
    nothing = torch.zeros(4, 12, dtype=torch.bool)
    targets, groups = torch.tensor([0, 1, 10, 3]), torch.tensor([5, 5, 7, 5])
    for evaluator in (micro, macro):
        for rows in (slice(0, 2), slice(2, 4)):
            evaluator.add(scores[rows], targets[rows], nothing[rows], groups[rows])
    assert micro.result() == pytest.approx(
        {"mr": 18 / 4, "mrr": (1 + 1 / 2 + 1 / 4 + 1 / 11) / 4, "hits_at_1": 1 / 4, "hits_at_3": 1 / 2}
        | {"hits_at_10": 3 / 4, "count": 4}
    )
    assert macro.result() == pytest.approx(
        {"mr": (7 / 3 + 11) / 2, "mrr": (7 / 12 + 1 / 11) / 2, "hits_at_1": 1 / 6, "hits_at_3": 1 / 3}
        | {"hits_at_10": 1 / 2, "count": 4}
    )


def test_macro_is_micro_where_every_group_has_one_query() -> None:
    micro, macro = RankingEvaluator(sampled=(2, 5)), RankingEvaluator(average="macro", sampled=(2, 5))
    micro.add(*case(2))
    macro.add(*case(2), groups=torch.arange(40).flip(0))
    assert macro.result() == pytest.approx(micro.result(), rel=1e-14)


def test_sampled_hits() -> None:
    share = torch.tensor([0.0, 0.1, 0.3, 1.0], dtype=torch.float64)
    hits = sampled_hits(share, 10, 50)
    assert hits[0] == 1 and hits[3] == 0
    assert torch.equal(sampled_hits(share, 6, 5), sampled_hits(share, 60, 5))
    torch.testing.assert_close(sampled_hits(share, 6, 5), torch.ones_like(share))
    evaluator = RankingEvaluator(sampled=(10, 50))  # one of the five candidates left is above
    evaluator.add(torch.tensor([[1.0, 2, 0, 0, 0, 0, 9]]), torch.tensor([0]), torch.arange(7)[None] == 6)
    for name, rivals, value in (("of", 49, 0.4717), ("against", 50, 0.4437)):
        drawn = oracle.hits_among(rivals, 10, above=1, candidates=5, source=random.Random(0), runs=1000)
        exact = float(sampled_hits(torch.tensor([0.2], dtype=torch.float64), 10, rivals))
        assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1000))
        assert evaluator.result()[f"hits_at_10_{name}_50"] == pytest.approx(exact, rel=1e-14)
        assert exact == pytest.approx(value, abs=5e-5)


def test_refusals() -> None:
    scores, targets, filtered = case(0)
    evaluator = RankingEvaluator()
    broken = scores.clone()
    broken[7, 3] = torch.nan
    with pytest.raises(InputError, match=r"entity 3 for query 7 is NaN \(1 of 40"):
        evaluator.add(broken, targets, filtered)
    with pytest.raises(ShapeError, match=r"'filtered' is \[40, 11\]"):
        evaluator.add(scores, targets, filtered[:, 1:])
    with pytest.raises(ShapeError, match=r"torch\.float64"):
        evaluator.add(scores, targets, filtered.double())
    with pytest.raises(ShapeError, match=r"\[39\] targets"):
        evaluator.add(scores, targets[1:], filtered)
    with pytest.raises(ShapeError, match=r"\[1\] groups"):
        evaluator.add(scores, targets, filtered, groups=targets[:1])
    for outside in (12, -1):
        with pytest.raises(InputError, match=f"the true answer is {outside}"):
            evaluator.add(scores, targets.index_fill(0, torch.tensor(5), outside), filtered)
    with pytest.raises(InputError, match="before any query"):
        evaluator.result()
    with pytest.raises(ConfigError, match="no groups"):
        RankingEvaluator(average="macro").add(scores, targets, filtered)
    for wrong in ({"ties": "best"}, {"average": "both"}, {"hits": (0, 1)}, {"sampled": (10, 0)}):
        with pytest.raises(ConfigError):
            RankingEvaluator(**wrong)


@pytest.mark.parametrize("area", ["auroc", "average_precision"])
@pytest.mark.parametrize("levels", [2, 6, 1000])
def test_areas_equal_the_explicit_program_and_scikit_learn(area: str, levels: int) -> None:
    ours = {"auroc": auroc, "average_precision": average_precision}[area]
    source = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (60,), generator=source).double()
    labels = torch.rand(60, generator=source) < 0.3
    found = ours(scores, labels)
    assert found == pytest.approx(getattr(oracle, area)(scores.tolist(), labels.tolist()), rel=1e-12)
    assert ours(scores.sqrt(), labels.long()) == ours(scores.flip(0), labels.flip(0)) == found
    metrics = pytest.importorskip("sklearn.metrics")
    theirs = {"auroc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}[area]
    assert found == pytest.approx(theirs(labels.numpy(), scores.numpy()), rel=1e-12)


def test_areas_at_their_ends() -> None:
    scores, labels = torch.tensor([3.0, torch.inf, 1.0, -torch.inf]), torch.tensor([1, 1, 0, 0])
    assert (auroc(scores, labels), average_precision(scores, labels)) == (1.0, 1.0)
    assert auroc(-scores, labels) == 0.0
    assert average_precision(-scores, labels) == pytest.approx((1 / 3 + 2 / 4) / 2)
    constant = torch.zeros(4)
    assert (auroc(constant, labels), average_precision(constant, labels)) == (0.5, 0.5)


def test_areas_refuse_what_they_cannot_compare() -> None:
    for area in (auroc, average_precision):
        for labels in (torch.ones(3), torch.zeros(3), torch.tensor([0, 1, 2]), torch.tensor([0.5, 0, 1])):
            with pytest.raises(InputError, match="labels of 3 links"):
                area(torch.arange(3.0), labels)
        with pytest.raises(InputError, match="link 1 is NaN"):
            area(torch.tensor([0, torch.nan]), torch.tensor([0, 1]))
        with pytest.raises(ShapeError, match=r"\[2\] labels"):
            area(torch.zeros(3), torch.zeros(2))
        with pytest.raises(InputError, match="labels of 0 links"):
            area(torch.zeros(0), torch.zeros(0))


def test_pykeen_agrees() -> None:
    pykeen = pytest.importorskip("pykeen.evaluation")
    scores, targets, filtered = case(3)
    scores = scores.clamp(-9, 9)  # there, infinite scores do not count as candidates
    seen = scores.masked_fill(filtered.scatter(1, targets[:, None], False), torch.nan)
    groups = torch.stack([torch.arange(40) // 7, torch.arange(40) % 2, targets], 1)
    for average, other in (("micro", pykeen.RankBasedEvaluator()), ("macro", pykeen.MacroRankBasedEvaluator())):
        other.process_scores_(groups, "tail", seen, true_scores=scores.gather(1, targets[:, None]))
        theirs = other.finalize()
        for ties in set(TIES) - {"expected"}:  # which it does not have
            evaluator = RankingEvaluator(ties=ties, average=average)
            evaluator.add(scores, targets, filtered, groups[:, 0] * 2 + groups[:, 1])
            ours = evaluator.result()
            names = {"mr": "arithmetic_mean_rank", "mrr": "inverse_harmonic_mean_rank"}
            names |= {f"hits_at_{k}": f"hits_at_{k}" for k in (1, 3, 10)}
            for name, theirs_name in names.items():
                assert ours[name] == pytest.approx(theirs.get_metric(f"tail.{ties}.{theirs_name}"), rel=1e-6), name
