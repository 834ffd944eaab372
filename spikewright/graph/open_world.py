"""Ranking where many true facts are unknown: metrics that weigh the top less, and evaluation with and without them."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.errors import ConfigError, InputError, nearest
from spikewright.graph.ranking import Average, Ties, by_group, check_scores, mean, tied_rank

POWERS = {"mrr": 1.0, "P3_4": 3 / 4, "P2_3": 2 / 3, "sqrt": 1 / 2, "P1_3": 1 / 3, "P1_4": 1 / 4}
KINDS = (*POWERS, "log", "hits_at_1", "hits_at_3", "hits_at_10")


def weights(ranks: Tensor, kind: str) -> Tensor:
    r"""Return what an answer at each rank r is worth, as float64; 1 at the first.

    `mrr` :math:`1/r`; `P3_4`, `P2_3`, `sqrt`, `P1_3`, `P1_4` :math:`r^{-p}` with p from 3/4 to 1/4; `log`
    :math:`1/\log_2(1+r)`; `hits_at_k` 1 up to rank k.

    Raises:
        ConfigError: There is no such kind.
        InputError: A rank is below 1, or not a number.
    """
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


def rank_metrics(ranks: Tensor, kinds: Iterable[str] = KINDS, groups: Tensor | None = None) -> dict[str, float]:
    """Return the mean worth of ranks `[any]`: over all answers (micro), or with groups by query first (macro).

    Raises:
        InputError: There are no ranks, or one is below 1.
        ConfigError: There is no such kind.

    >>> rank_metrics(torch.tensor([1.0, 4.0, 3.0]), ("mrr", "log"), groups=torch.tensor([0, 0, 1]))
    {'mrr': 0.47916666666666663, 'log': 0.6076691395183482}
    """
    if not len(ranks):
        raise InputError("Ranking metrics of no ranks were asked for. Give one answer at least.")
    return {kind: mean(weights(ranks, kind), groups) for kind in kinds}


@dataclass(frozen=True)
class AnswerRanks:
    """Filtered ranks of all answers to some queries.

    Attributes:
        ranks: `[answers]`, float64.
        queries: The row of scores that each belongs to, `[answers]`.
    """

    ranks: Tensor
    queries: Tensor

    def metrics(self, kinds: Iterable[str] = KINDS, average: Average = "macro") -> dict[str, float]:
        """Return metrics as `rank_metrics` does; macro gives each query the same weight, micro each answer."""
        return rank_metrics(self.ranks, kinds, self.queries if average == "macro" else None)

    def interval(
        self,
        kind: str,
        generator: torch.Generator,
        average: Average = "macro",
        level: float = 0.95,
        resamples: int = 1000,
    ) -> tuple[float, float]:
        """Return the bootstrap percentile interval of a metric.

        Whole queries are drawn again: the answers to one share its rivals, and are not independent.

        Raises:
            InputError: There are no ranks.
            ConfigError: There is no such kind, or the level is not between 0 and 1.
        """
        if not len(self.ranks) or not 0 < level < 1:
            raise (ConfigError if len(self.ranks) else InputError)(
                f"A bootstrap interval of level {level} was asked for over {len(self.ranks)} answers. Give a level "
                "between 0 and 1, and one answer at least."
            )
        sums, counts = by_group(weights(self.ranks, kind), self.queries)
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


def answer_ranks(scores: Tensor, answers: Tensor, filtered: Tensor, ties: Ties = "realistic") -> AnswerRanks:
    """Rank every answer among the entities that are neither answers nor filtered.

    Args:
        scores: Of every entity, `[Q, N]`.
        answers: True where an answer is that counts, `[Q, N]`.
        filtered: True where an entity is passed over, such as facts of training, `[Q, N]`.
        ties: As for `RankingEvaluator`.

    Raises:
        ShapeError: The tensors do not fit together.
        InputError: A score is not a number.
    """
    check_scores(scores, answers=answers, filtered=filtered)
    scores = scores.detach()
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.double()
    listed = answers | filtered
    rivals = (~listed).sum(1, keepdim=True)
    order = scores.masked_fill(listed, torch.inf).sort(1).values
    # An infinite score is level with what is masked, but not with more of it than there are rivals.
    below = torch.searchsorted(order, scores.contiguous())
    up_to = torch.searchsorted(order, scores.contiguous(), right=True).minimum(rivals)
    ranks = tied_rank(rivals - up_to, up_to - below, ties)
    return AnswerRanks(ranks[answers], answers.nonzero()[:, 0])


def double_evaluation(
    scores: Tensor, train: Tensor, test: Tensor, missing: Tensor, ties: Ties = "realistic"
) -> tuple[AnswerRanks, AnswerRanks]:
    """Rank one score matrix twice: as if the missing facts were false, and knowing that they are true.

    Both take the queries that have a test answer.  In the first (sparse), test answers count and missing ones stand in
    their way; in the second (full), both count and none stands in the way of another.

    Args:
        scores: Of every entity, `[Q, N]`.
        train: True where an answer is known from training, `[Q, N]`; always filtered.
        test: True where a test answer is, `[Q, N]`.
        missing: True where an answer is that the data does not hold, `[Q, N]`.
        ties: As for `RankingEvaluator`.

    Raises:
        ShapeError: The tensors do not fit together.
        InputError: A score is not a number.
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
    ties: Ties = "realistic",
) -> dict[float, AnswerRanks]:
    """Evaluate with a random share of the answers only, the others passing for false; by share.

    What is kept at one density is kept at all higher ones.

    Raises:
        ShapeError: The tensors do not fit together.
        InputError: A score is not a number.
        ConfigError: A density is not above 0 and at most 1.
    """
    check_scores(scores, train=train, answers=answers)
    luck = torch.rand(answers.shape, generator=generator, device=generator.device, dtype=torch.float64)
    swept = {}
    for density in densities:
        if not 0 < density <= 1:
            raise ConfigError(f"A share of {density} of the answers was to be kept. Give one above 0, 1 at most.")
        swept[density] = answer_ranks(scores, answers & (luck.to(answers.device) < density), train, ties)
    return swept
