"""Where the true answer stands among all others: filtered ranks, and what is averaged over them."""

import math
from typing import Literal

import torch
from torch import Tensor

from spikewright.errors import ConfigError, InputError, ShapeError

Ties = Literal["optimistic", "realistic", "pessimistic"]
Average = Literal["micro", "macro"]

SHARE_OF_TIES: dict[Ties, float] = {"optimistic": 0.0, "realistic": 0.5, "pessimistic": 1.0}


class RankingEvaluator:
    r"""Ranks true answers among the candidates of their queries, and averages over all that was added.

    Other known answers are no candidates, the true one always is.  With a candidates above it and b level with it, its
    rank is 1 + a (optimistic), 1 + a + b (pessimistic), or the mean of the two (realistic).

    Args:
        hits: The k of Hits@k: fraction of ranks up to k.
        ties: Which rank an answer has that others are level with.
        average: Mean over all queries, or first over each group of queries (for one source and relation, say).
        sampled: (k, n) adds Hits@k among n random candidates, in expectation: with p the share of the other
            candidates that stand above, :math:`\sum_{i<k} \binom{n}{i} p^i (1-p)^{n-i}`.
        reference: Take `filtered` by the letter: a true answer that it does not mark is one of its own rivals, and
            wins.  Then ranks begin at 2 where the filter holds no test facts, as in the inductive tables of NBFNet and
            GRSNN, which also rank pessimistically.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        Bordes et al., Translating Embeddings for Modeling Multi-relational Data, NeurIPS 2013 (filtered ranks);
        Teru et al., Inductive Relation Prediction by Subgraph Reasoning, ICML 2020 (Hits@10 of 50).

    >>> evaluator = RankingEvaluator(hits=(1, 2))
    >>> evaluator.add(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([2]), torch.tensor([[False, False, True]])).tolist()
    [2.0]
    >>> evaluator.result()
    {'mr': 2.0, 'mrr': 0.5, 'hits_at_1': 0.0, 'hits_at_2': 1.0, 'count': 1}
    """

    def __init__(
        self,
        hits: tuple[int, ...] = (1, 3, 10),
        ties: Ties = "realistic",
        average: Average = "micro",
        sampled: tuple[int, int] | None = None,
        reference: bool = False,
    ) -> None:
        if ties not in SHARE_OF_TIES or average not in ("micro", "macro"):
            raise ConfigError(
                f"Ranking was asked for ties {ties!r} and average {average!r}. Ties are optimistic, realistic or "
                "pessimistic; the average is micro or macro."
            )
        if min([1, *hits, *(sampled or ())]) < 1:
            raise ConfigError(
                f"Hits were asked for at {hits}, and sampled at {sampled}, but ranks begin at 1. Give positive numbers."
            )
        self.hits, self.average, self.sampled, self.reference = hits, average, sampled, reference
        self.ties: Ties = ties
        self._standings: list[Tensor] = []
        self._groups: list[Tensor] = []

    def add(self, scores: Tensor, targets: Tensor, filtered: Tensor, groups: Tensor | None = None) -> Tensor:
        """Note the ranks of a batch of queries, and return them, `[Q]` float64.

        Args:
            scores: Of every entity, the higher the better, `[Q, N]`; infinite ones are welcome.
            targets: The true answer, `[Q]` int64.
            filtered: True where another known answer is, `[Q, N]`; the true one may be marked or not.
            groups: Which group of queries each belongs to, `[Q]` int64, for the macro average.

        Raises:
            ShapeError: The tensors do not fit together.
            InputError: A score is not a number, or a true answer not an entity.
            ConfigError: The average is macro, and there are no groups.
        """
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
        """Return the ranks of all that was added, `[any]` float64; with `ties` in the place of the evaluator's own."""
        above, level, _ = self._all()
        return tied_rank(above, level, self.ties if ties is None else ties)

    def _all(self) -> Tensor:
        """Return of all that was added how many candidates are above and level, and how many there are."""
        return torch.cat(self._standings, 1) if self._standings else torch.zeros(3, 0, dtype=torch.int64)

    def result(self) -> dict[str, float]:
        """Return the averages: `mr`, `mrr`, `hits_at_3` and so on, `hits_at_10_50` if sampled; and `count`.

        Raises:
            InputError: No query was added.
        """
        ranks = self.ranks()
        if not len(ranks):
            raise InputError("Averages over ranks were asked for before any query was added. Add one at least.")
        values = {"mr": ranks, "mrr": 1 / ranks} | {f"hits_at_{k}": (ranks <= k).double() for k in self.hits}
        if self.sampled is not None:
            values["hits_at_{}_{}".format(*self.sampled)] = sampled_hits(
                (ranks - 1) / self._all()[2].clamp(min=1), *self.sampled
            )
        groups = torch.cat(self._groups) if self.average == "macro" else None
        return {name: mean(value, groups) for name, value in values.items()} | {"count": len(ranks)}


def tied_rank(above: Tensor, level: Tensor, ties: Ties) -> Tensor:
    """Return the rank, float64, of what so many candidates are above of and so many level with."""
    return 1 + above.double() + SHARE_OF_TIES[ties] * level


def sampled_hits(share: Tensor, k: int, number: int) -> Tensor:
    """Return the probability that fewer than k of `number` random candidates are of the `share` that stands above."""
    return sum(
        (math.comb(number, i) * share**i * (1 - share) ** (number - i) for i in range(min(k, number + 1))),
        torch.zeros_like(share),
    )


def mean(values: Tensor, groups: Tensor | None = None) -> float:
    """Return the mean of `[any]`; with groups, the mean over groups of the means in them."""
    if groups is None:
        return float(values.mean())
    sums, counts = by_group(values, groups)
    return float((sums / counts).mean())


def by_group(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each group that occurs the sum of its values, and their number."""
    _, place, counts = groups.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(counts), dtype=values.dtype, device=values.device).index_add(0, place, values), counts


def check_scores(scores: Tensor, **masks: Tensor) -> None:
    """Refuse scores that are no `[Q, N]` of numbers, and masks of another shape or type.

    Raises:
        ShapeError: Something is not `[Q, N]`, or a mask not bool.
        InputError: A score is not a number.
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
            "have such scores). What is not a number has no rank. Look for the first step that is not finite."
        )
