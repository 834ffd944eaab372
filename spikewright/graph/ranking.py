"""Filtered ranks of true answers, and averages over them."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_choice, check_flag, check_sizes
from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.graph.ties import SHARE_OF_TIES, Ties, averaged, open_places, tied_rank

Average = Literal["micro", "macro"]


class RankingEvaluator:
    r"""Filtered ranks of true answers and their averages, accumulated over batches of queries.

    With a the number of candidates scored above the answer and b the number of equal scores, the rank is :math:`1 + a`
    ("optimistic"), :math:`1 + a + b` ("pessimistic") or :math:`1 + a + b/2` ("realistic"). "expected" also has the rank
    :math:`1 + a + b/2`, but its metrics are means over the b + 1 ranks from :math:`1 + a` to :math:`1 + a + b`, which
    are equally likely if ties are broken at random: a model of constant scores is as good as chance. Metrics of the
    mean rank are not: with b = 18 it is 10, and Hits@10 would be 1. Other known answers are not candidates.

    **Carried**: three int64 numbers per answer.

    Args:
        hits: Values of k for Hits@k, the fraction of ranks up to k; each from 1 to 10**6. Default: (1, 3, 10).
        ties: Treatment of an answer whose score equals that of others: "expected" (mean of the metric over the tied
            ranks), "realistic" (metric of the mean rank, as in PyKEEN), "optimistic" (of the first rank) or
            "pessimistic" (of the last rank, as in the published tables of NBFNet). Default: "expected".
        average: "micro" averages over answers, "macro" first within groups and then over groups. Default: "micro".
        sampled: (k, n), each from 1 to 10**6, adds two expectations of Hits@k over random draws of the rivals,
            :math:`\sum_{i<k} \binom{m}{i} p^i (1-p)^{m-i}` with p the fraction of candidates above the answer:
            `hits_at_k_of_n` with m = n - 1, which ranks n entities, the answer among them (the protocol of Teru et
            al.), and `hits_at_k_against_n` with m = n (the first release of NBFNet, and GRSNN). Default: None, not
            reported.
        reference: True also counts an answer that `filtered` does not mark as its own rival, so that ranks begin at 2
            where the filter lacks the test facts. This, ties="pessimistic" and `hits_at_10_against_50` give the
            inductive figures of the released NBFNet and GRSNN code. Default: False.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        Bordes et al., Translating Embeddings for Modeling Multi-relational Data, NeurIPS 2013 (filtered ranks); Teru,
        Denis and Hamilton, Inductive Relation Prediction by Subgraph Reasoning, ICML 2020 (Hits@10 of 50); Berrendorf,
        Faerman, Vermue and Tresp, On the Ambiguity of Rank-Based Evaluation of Entity Alignment or Link Prediction
        Methods, 2020, arXiv 2002.06914 (tie rules).

    >>> import torch
    >>> from spikewright.graph import RankingEvaluator
    >>> evaluator = RankingEvaluator(hits=(1, 2))
    >>> evaluator.add(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([2]), torch.tensor([[False, False, True]])).tolist()
    [2.0]
    >>> evaluator.result()
    {'mr': 2.0, 'mrr': 0.5, 'hits_at_1': 0.0, 'hits_at_2': 1.0, 'count': 1}
    """

    def __init__(
        self,
        hits: tuple[int, ...] = (1, 3, 10),
        ties: Ties = "expected",
        average: Average = "micro",
        sampled: tuple[int, int] | None = None,
        reference: bool = False,
    ) -> None:
        check_choice("RankingEvaluator", "ties", ties, SHARE_OF_TIES)
        check_choice("RankingEvaluator", "average", average, ("micro", "macro"))
        check_sizes("RankingEvaluator", hits=hits, sampled=() if sampled is None else sampled)
        check_flag("RankingEvaluator", reference=reference)
        self.hits, self.average, self.sampled, self.reference = hits, average, sampled, reference
        self.ties: Ties = ties
        self._standings: list[Tensor] = []
        self._groups: list[Tensor] = []

    def add(self, scores: Tensor, targets: Tensor, filtered: Tensor, groups: Tensor | None = None) -> Tensor:
        """Add a batch of queries and return the ranks of their answers, float64 `[Q]`.

        Args:
            scores: Score of every entity, the higher the better; may be infinite. Shape `[Q, N]`.
            targets: True answer of each query, int64 `[Q]`.
            filtered: True for other known answers; the entry of the true answer has no effect unless `reference` is
                set. Shape `[Q, N]`.
            groups: Group of each query for the macro average, int64 `[Q]`. Default: None, allowed for the micro average
                only.

        Raises:
            ShapeError: The tensors do not fit together.
            InputError: A score is NaN, or a target is no entity.
            ConfigError: The average is "macro" and there are no groups.
        """
        check_tensor("scores", scores, "[Q, N]")
        check_tensor("targets", targets, "int64 [Q]")
        check_tensor("filtered", filtered, "bool [Q, N]")
        check_scores(scores, filtered=filtered)
        if targets.shape != scores.shape[:1] or (groups is not None and groups.shape != targets.shape):
            found = f"{list(targets.shape)} targets" + ("" if groups is None else f", {list(groups.shape)} groups")
            raise ShapeError(
                f"Each query has one target, and at most one group; scores are {list(scores.shape)}, {found}. Give one "
                "number a row."
            )
        if len(outside := targets[(targets < 0) | (targets >= scores.shape[1])]):
            raise InputError(
                f"{scores.shape[1]} entities have a score, and the true answer is {int(outside[0])}. It cannot be "
                "ranked. Score all entities that the facts were numbered with."
            )
        if groups is None and self.average == "macro":
            raise ConfigError(
                "A macro average was asked for, and there are no groups, so that it is not known which queries belong "
                "together. Give them, or take the micro average."
            )
        own = targets[:, None]
        true, rivals = scores.detach().gather(1, own), (~filtered).scatter(1, own, False)
        above, level = ((scores > true) & rivals).sum(1), ((scores == true) & rivals).sum(1)
        candidates = rivals.sum(1)
        if self.reference:
            itself = (~filtered).gather(1, own)[:, 0]
            above, candidates = above + itself, candidates + itself
        self._standings.append(torch.stack([above, level, candidates]))
        if groups is not None:
            self._groups.append(groups)
        return tied_rank(above, level, self.ties)

    def ranks(self, ties: Ties | None = None) -> Tensor:
        """Return all ranks so far, float64 `[any]`; the mean rank where ties are "expected".

        Args:
            ties: "expected", "realistic", "optimistic" or "pessimistic". Default: None, the rule of this evaluator.
        """
        above, level, _ = self._all()
        return tied_rank(above, level, self.ties if ties is None else ties)

    def tied(self, ties: Ties | None = None) -> Tensor:
        """Return how many level candidates each metric is averaged over, int64 `[any]`; 0 unless ties are "expected".

        Args:
            ties: "expected", "realistic", "optimistic" or "pessimistic". Default: None, the rule of this evaluator.
        """
        return open_places(self._all()[1], self.ties if ties is None else ties)

    def _all(self) -> Tensor:
        """Return, for all answers so far, the numbers of candidates above, level and in total, `[3, any]`."""
        return torch.cat(self._standings, 1) if self._standings else torch.zeros(3, 0, dtype=torch.int64)

    def result(self, ties: Ties | None = None) -> dict[str, float]:
        """Return all averages by name, and the number of answers as `count`.

        The names are `mr`, `mrr`, `hits_at_k` for each k of `hits`, and `hits_at_k_of_n` and `hits_at_k_against_n` if
        `sampled` is set.

        Args:
            ties: "expected", "realistic", "optimistic" or "pessimistic". Default: None, the rule of this evaluator.

        Raises:
            InputError: No query was added.
        """
        ranks, tied = self.ranks(ties), self.tied(ties)
        if not len(ranks):
            raise InputError("Averages over ranks were asked for before any query was added. Add one at least.")
        values = {"mr": ranks, "mrr": averaged(torch.reciprocal, ranks, tied)}
        values |= {f"hits_at_{k}": averaged(lambda r, k=k: (r <= k).double(), ranks, tied) for k in self.hits}
        if self.sampled is not None:
            k, number = self.sampled
            for name, rivals in (("of", number - 1), ("against", number)):
                values[f"hits_at_{k}_{name}_{number}"] = self._sampled(ranks, tied, k, rivals)
        groups = torch.cat(self._groups) if self.average == "macro" else None
        return {name: mean(value, groups) for name, value in values.items()} | {"count": len(ranks)}

    def _sampled(self, ranks: Tensor, tied: Tensor, k: int, rivals: int) -> Tensor:
        """Return the expected Hits@k of each answer against so many random candidates of its query."""
        hits, candidates = torch.empty_like(ranks), self._all()[2].clamp(min=1)
        for number in candidates.unique().tolist():
            chosen = candidates == number
            worth = partial(_hits_of_rank, candidates=number, k=k, rivals=rivals)
            hits[chosen] = averaged(worth, ranks[chosen], tied[chosen])
        return hits


def _hits_of_rank(ranks: Tensor, candidates: int, k: int, rivals: int) -> Tensor:
    return sampled_hits((ranks - 1) / candidates, k, rivals)


def sampled_hits(share: Tensor, k: int, number: int) -> Tensor:
    """Return the probability that fewer than k of `number` random candidates are among the `share` above the answer."""
    return sum(
        (math.comb(number, i) * share**i * (1 - share) ** (number - i) for i in range(min(k, number + 1))),
        torch.zeros_like(share),
    )


def mean(values: Tensor, groups: Tensor | None = None) -> float:
    """Return the mean of values `[any]`; with groups, the mean over groups of their means."""
    if groups is None:
        return float(values.mean())
    sums, counts = by_group(values, groups)
    return float((sums / counts).mean())


def by_group(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum and the number of the values in each group."""
    _, place, counts = groups.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(counts), dtype=values.dtype, device=values.device).index_add(0, place, values), counts


def check_scores(scores: Tensor, **masks: Tensor) -> None:
    """Check that scores are `[Q, N]` without NaN, and masks bool of the same shape.

    Raises:
        ShapeError: A shape or a mask's type is wrong.
        InputError: A score is NaN.
    """
    for name, mask in masks.items():
        if scores.dim() != 2 or mask.shape != scores.shape or mask.dtype != torch.bool:
            raise ShapeError(
                f"Scores and masks are [Q, N], one row a query; the scores are {list(scores.shape)}, and {name!r} is "
                f"{list(mask.shape)} of {mask.dtype}. Give a bool for every score."
            )
    if bool((bad := scores.isnan()).any()):
        query, entity = bad.nonzero()[0].tolist()
        raise InputError(
            f"The score of entity {entity} for query {query} is NaN ({int(bad.any(1).sum())} of {len(scores)} queries "
            "have such scores), which has no rank. Look for the first step that is not finite."
        )
