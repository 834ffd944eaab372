"""How well a model answers the queries of a split."""

from collections.abc import Iterator

import torch
from torch import Tensor

from spikewright._util.trial import evaluating
from spikewright.data.randomness import keyed_generator
from spikewright.graph.classification import auroc, average_precision
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.models import LinkScorer
from spikewright.graph.negative_sampling import both_ways, known_answers, pairs
from spikewright.graph.open_world import rank_metrics
from spikewright.graph.ranking import RankingEvaluator, Ties
from spikewright.graph.structure import RelationalGraph

TIES: tuple[Ties, ...] = ("realistic", "optimistic", "pessimistic")


def graph_of(data: GraphData, split: GraphSplit) -> RelationalGraph:
    """Lay out the facts of a split for messages."""
    if data.homogeneous:
        return RelationalGraph.undirected(split.facts, len(split.entities))
    return RelationalGraph.of(split.facts, len(split.entities), len(data.relations))


def evaluate(
    model: LinkScorer,
    data: GraphData,
    split: GraphSplit,
    *,
    batch: int = 32,
    ties: Ties = "realistic",
    sampled: bool = False,
) -> dict[str, float]:
    """Ask every query of a split in both directions, and rank the answers among all entities.

    Other answers that the split knows are left out.  A query with several answers is asked once.  Pairs of nodes of
    a homogeneous graph are told apart instead.

    Args:
        model: What answers.
        data: The graph that the split is of.
        split: What to ask.
        batch: Queries at a time.
        ties: Which rank an answer has that others are level with.
        sampled: Also report Hits@10 among 50 random candidates.

    Returns:
        `mrr`, `mr`, `hits_at_1`, `hits_at_3`, `hits_at_10`, each over single answers; `macro_mrr` and so on over
        queries, with metrics that weigh the first ranks less (`macro_log`, `macro_sqrt`, see
        `spikewright.graph.open_world`); `mrr_optimistic` and `mrr_pessimistic`; or `auroc` and `average_precision`.
    """
    device = next(model.parameters()).device
    graph = graph_of(data, split).to(device)
    with evaluating(model), torch.no_grad():
        if data.homogeneous:
            return _told_apart(model, data, split, graph, batch)
        found = RankingEvaluator(ties=ties, sampled=(10, 50) if sampled else None)
        groups: list[Tensor] = []
        for scores, targets, filtered, asked in _answered(model, data, split, graph, batch):
            found.add(scores, targets, filtered)
            groups.append(asked)
    by_query = rank_metrics(found.ranks(), groups=torch.cat(groups))
    return {
        **found.result(),
        **{f"macro_{name}": value for name, value in by_query.items()},
        **{f"mrr_{t}": float((1 / found.ranks(t)).mean()) for t in TIES if t != ties},
    }


def _answered(
    model: LinkScorer, data: GraphData, split: GraphSplit, graph: RelationalGraph, batch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield scores, answers, what to leave out, and queries, one row per answer."""
    known = known_answers(data, split.known, split.entities)
    sources, kinds, answers = both_ways(split.queries, len(data.relations))
    queries, which = torch.unique(torch.stack([sources, kinds], 1), dim=0, return_inverse=True)
    order = which.argsort(stable=True)
    ends = torch.bincount(which, minlength=len(queries)).cumsum(0)
    device = graph.sources.device
    for first in range(0, len(queries), batch):
        some = queries[first : first + batch]
        start, stop = int(ends[first - 1]) if first else 0, int(ends[min(first + batch, len(queries)) - 1])
        rows = order[start:stop]
        scores = model(graph, *some.to(device).unbind(1)).cpu()
        filtered = known.mask(*some.unbind(1))
        own = which[rows] - first
        yield scores[own], answers[rows], filtered[own], which[rows]


def _told_apart(
    model: LinkScorer, data: GraphData, split: GraphSplit, graph: RelationalGraph, batch: int
) -> dict[str, float]:
    known, generator = known_answers(data, split.known, split.entities), keyed_generator(0)
    sources, kinds, nodes = pairs(split.queries, known, generator)
    device = graph.sources.device
    parts = zip(*(t.to(device).split(batch) for t in (sources, kinds, nodes)), strict=True)
    scores = torch.cat([model(graph, *part).cpu() for part in parts]).flatten()
    labels = torch.arange(len(scores)) < len(scores) // 2
    return {
        "auroc": auroc(scores, labels),
        "average_precision": average_precision(scores, labels),
        "count": len(scores),
    }
