"""Ranking with missing facts: metrics that weigh the top less, evaluation with and without the missing facts."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright.errors import ConfigError, InputError, nearest
from spikewright.graph.ranking import Average, by_group, check_scores, mean
from spikewright.graph.ties import Ties, averaged, open_places, tied_rank

POWERS = {"mrr": 1.0, "P3_4": 3 / 4, "P2_3": 2 / 3, "sqrt": 1 / 2, "P1_3": 1 / 3, "P1_4": 1 / 4}
KINDS = (*POWERS, "log", "hits_at_1", "hits_at_3", "hits_at_10")


def weights(ranks: Tensor, kind: str) -> Tensor:
    r"""Return the value of an answer at each rank r, float64, 1 at rank 1.

    Args:
        ranks: Ranks, each at least 1. Any shape.
        kind: `mrr` (:math:`1/r`); `P3_4`, `P2_3`, `sqrt`, `P1_3`, `P1_4` (:math:`r^{-p}` with p = 3/4, 2/3, 1/2, 1/3,
            1/4); `log` (:math:`1/\log_2(1+r)`); `hits_at_k` for any k of at least 1 (1 up to rank k, 0 beyond).

    Raises:
        ConfigError: The kind is unknown.
        InputError: A rank is below 1, or NaN.
    """
    check_tensor("ranks", ranks, "[any]")
    ranks = ranks.double()
    if not bool((ranks >= 1).all()):
        raise InputError(
            f"A rank is {float(ranks[~(ranks >= 1)][0])}, but ranks begin at 1, where every metric is 1. Add 1 to "
            "positions that are counted from 0."
        )
    if kind in POWERS:
        return ranks ** -POWERS[kind]
    if kind == "log":
        return 1 / torch.log2(1 + ranks)
    start, _, k = kind.rpartition("_")
    if start == "hits_at" and k.isdecimal() and int(k):
        return (ranks <= int(k)).double()
    raise ConfigError(f"There is no ranking metric {kind!r}; hits_at_k exists for every k. {nearest(kind, KINDS)}")


def rank_metrics(
    ranks: Tensor, kinds: Iterable[str] = KINDS, groups: Tensor | None = None, tied: Tensor | None = None
) -> dict[str, float]:
    """Return ranking metrics averaged over answers (micro), or first within groups and then over groups (macro).

    Args:
        ranks: Ranks of the answers, each at least 1. Shape `[any]`.
        kinds: Names of metrics: `mrr`, `P3_4`, `P2_3`, `sqrt`, `P1_3`, `P1_4`, `log`, `hits_at_k`. Default: all, with k
            = 1, 3, 10.
        groups: Query number of each answer, for the macro average. Shape `[any]`. Default: None, micro average.
        tied: Number b of candidates that each answer is level with; metrics are means over the ranks `rank - b/2` to
            `rank + b/2`, such as `RankingEvaluator.tied()` for the ties "expected". Shape `[any]`. Default: None,
            metrics of the ranks themselves.

    Raises:
        InputError: There are no ranks, or one is below 1.
        ConfigError: A kind is unknown.

    >>> import torch
    >>> from spikewright.graph import rank_metrics
    >>> rank_metrics(torch.tensor([1.0, 4.0, 3.0]), ("mrr", "log"), groups=torch.tensor([0, 0, 1]))
    {'mrr': 0.47916666666666663, 'log': 0.6076691395183482}
    """
    check_tensor("ranks", ranks, "[any]")
    if not ranks.dim() or not len(ranks):
        raise InputError("Ranking metrics of no ranks were asked for. Give one answer at least.")
    return {kind: mean(averaged(partial(weights, kind=kind), ranks, tied), groups) for kind in kinds}


@dataclass(frozen=True)
class AnswerRanks:
    """Filtered ranks of all answers to a set of queries.

    Attributes:
        ranks: Rank of each answer, float64 `[answers]`; the mean rank where ties are "expected".
        queries: Row of the score matrix that each answer belongs to, int64 `[answers]`.
        tied: Number of level candidates that metrics of each answer are averaged over, int64 `[answers]`.
            Default: None, 0 everywhere.
    """

    ranks: Tensor
    queries: Tensor
    tied: Tensor | None = None

    def metrics(self, kinds: Iterable[str] = KINDS, average: Average = "macro") -> dict[str, float]:
        """Return ranking metrics by name.

        Args:
            kinds: Names of metrics, as for `rank_metrics`. Default: all.
            average: "macro" weighs queries equally, "micro" answers. Default: "macro".

        Raises:
            InputError: There are no ranks.
            ConfigError: A kind is unknown.
        """
        return rank_metrics(self.ranks, kinds, self.queries if average == "macro" else None, self.tied)

    def interval(
        self,
        kind: str,
        generator: torch.Generator,
        average: Average = "macro",
        level: float = 0.95,
        resamples: int = 1000,
    ) -> tuple[float, float]:
        """Return the bootstrap percentile interval `(low, high)` of a metric.

        Resamples whole queries, since the answers to one query are not independent.

        Args:
            kind: Name of a metric, as for `rank_metrics`.
            generator: `torch.Generator` of the resampling.
            average: "macro" weighs queries equally, "micro" answers. Default: "macro".
            level: Coverage, in (0, 1). Default: 0.95.
            resamples: Number of bootstrap samples, at least 1. Default: 1000.

        Raises:
            InputError: There are no ranks.
            ConfigError: The kind is unknown, or the level is not in (0, 1).
        """
        if not len(self.ranks) or not 0 < level < 1:
            raise (ConfigError if len(self.ranks) else InputError)(
                f"A bootstrap interval of level {level} was asked for over {len(self.ranks)} answers. Give a level "
                "between 0 and 1, and one answer at least."
            )
        sums, counts = by_group(averaged(partial(weights, kind=kind), self.ranks, self.tied), self.queries)
        if average == "macro":
            sums, counts = sums / counts, torch.ones_like(counts)
        found = []
        for _ in range(resamples):
            again = torch.randint(len(sums), (len(sums),), generator=generator, device=generator.device)
            again = again.to(sums.device)
            found.append(sums[again].sum() / counts[again].sum())
        bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        low, high = torch.stack(found).cpu().quantile(bounds).tolist()
        return low, high


def answer_ranks(scores: Tensor, answers: Tensor, filtered: Tensor, ties: Ties = "expected") -> AnswerRanks:
    """Rank every answer among the entities that are neither answers nor filtered.

    **Cost**: one sort of the scores, `O(Q N log N)` time and `O(Q N)` memory.

    Args:
        scores: Score of every entity for every query, the higher the better. Shape `[Q, N]`.
        answers: True for the answers to rank. Shape `[Q, N]`.
        filtered: True for entities to leave out, such as training facts. Shape `[Q, N]`.
        ties: Treatment of an answer whose score equals that of others, as for `RankingEvaluator`: "expected",
            "realistic", "optimistic" or "pessimistic". Default: "expected".

    Raises:
        ShapeError: Scores and masks differ in shape, or a mask is not bool.
        InputError: A score is NaN.
    """
    check_scores(scores, answers=answers, filtered=filtered)
    scores = scores.detach()
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.double()
    listed = answers | filtered
    rivals = (~listed).sum(1, keepdim=True)
    order = scores.masked_fill(listed, torch.inf).sort(1).values
    # Masked entities count as infinite, so the number of ties with an infinite score is limited to the rivals.
    below = torch.searchsorted(order, scores.contiguous())
    up_to = torch.searchsorted(order, scores.contiguous(), right=True).minimum(rivals)
    level = up_to - below
    ranks, tied = tied_rank(rivals - up_to, level, ties), open_places(level, ties)
    return AnswerRanks(ranks[answers], answers.nonzero()[:, 0], tied[answers])


def double_evaluation(
    scores: Tensor, train: Tensor, test: Tensor, missing: Tensor, ties: Ties = "expected"
) -> tuple[AnswerRanks, AnswerRanks]:
    """Rank one score matrix twice: with the missing facts counted as false, and with them counted as true.

    Both evaluations cover the queries with at least one test answer. In the first (sparse), test answers are ranked and
    missing facts are rivals; in the second (full), test answers and missing facts are ranked and neither is a rival.

    Args:
        scores: Score of every entity for every query. Shape `[Q, N]`.
        train: True for training answers, which are always filtered. Shape `[Q, N]`.
        test: True for test answers. Shape `[Q, N]`.
        missing: True for answers that the data set lacks. Shape `[Q, N]`.
        ties: Treatment of an answer whose score equals that of others, as for `RankingEvaluator`: "expected",
            "realistic", "optimistic" or "pessimistic". Default: "expected".

    Returns:
        `AnswerRanks` of the sparse and of the full evaluation.

    Raises:
        ShapeError: Scores and masks differ in shape, or a mask is not bool.
        InputError: A score is NaN.

    Reference:
        Yang, Lin and Zhang, Rethinking Knowledge Graph Evaluation Under the Open-World Assumption, NeurIPS 2022,
        arXiv 2209.08858.
    """
    check_scores(scores, train=train, test=test, missing=missing)
    full = (test | missing) & test.any(1, keepdim=True)
    return answer_ranks(scores, test, train, ties), answer_ranks(scores, full, train, ties)


def density_sweep(
    scores: Tensor,
    train: Tensor,
    answers: Tensor,
    densities: Iterable[float],
    generator: torch.Generator,
    ties: Ties = "expected",
) -> dict[float, AnswerRanks]:
    """Return ranks by density: a random fraction of the answers counts as true, the others as false.

    Answers that count at one density also count at all higher ones.

    Args:
        scores: Score of every entity for every query. Shape `[Q, N]`.
        train: True for training answers, which are always filtered. Shape `[Q, N]`.
        answers: True for all true answers. Shape `[Q, N]`.
        densities: Fractions of the answers to keep, each in (0, 1].
        generator: `torch.Generator` of the choice.
        ties: Treatment of an answer whose score equals that of others, as for `RankingEvaluator`: "expected",
            "realistic", "optimistic" or "pessimistic". Default: "expected".

    Raises:
        ShapeError: Scores and masks differ in shape, or a mask is not bool.
        InputError: A score is NaN.
        ConfigError: A density is not in (0, 1].
    """
    check_scores(scores, train=train, answers=answers)
    luck = torch.rand(answers.shape, generator=generator, device=generator.device, dtype=torch.float64)
    swept = {}
    for density in densities:
        if not 0 < density <= 1:
            raise ConfigError(f"A share of {density} of the answers was to be kept. Give one above 0, 1 at most.")
        swept[density] = answer_ranks(scores, answers & (luck.to(answers.device) < density), train, ties)
    return swept
