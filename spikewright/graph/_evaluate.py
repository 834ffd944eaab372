"""Evaluation of a link-prediction model on the queries of a split."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_choice, check_counts, check_flag, check_instance
from spikewright._util.text import kind_of
from spikewright._util.trial import evaluating
from spikewright.errors import ConfigError, InputError
from spikewright.graph.classification import auroc, average_precision
from spikewright.graph.data import GraphData, GraphSplit
from spikewright.graph.models import LinkScorer
from spikewright.graph.negative_sampling import both_ways, known_answers, pairs
from spikewright.graph.open_world import rank_metrics
from spikewright.graph.ranking import RankingEvaluator
from spikewright.graph.structure import RelationalGraph
from spikewright.graph.ties import SHARE_OF_TIES, Ties


def graph_of(data: GraphData, split: GraphSplit) -> RelationalGraph:
    """Return the message-passing graph of a split's facts.

    Every fact gives an edge in both directions, the reverse edge with the inverse relation
    `relation + len(data.relations)`. A homogeneous graph has one relation in both directions and one self-loop per
    node.

    Args:
        data: `GraphData` that the split belongs to.
        split: `GraphSplit` whose `facts` become edges.
    """
    check_instance("graph_of", "data", data, GraphData, "load_graph('family')")
    check_instance("graph_of", "split", split, GraphSplit, "data.test")
    if data.homogeneous:
        return RelationalGraph.undirected(split.facts, len(split.entities))
    return RelationalGraph.of(split.facts, len(split.entities), len(data.relations))


def check_scored(owner: str, model: object, data: object, split: object) -> None:
    """Raise `ConfigError` unless a function was given a model, a graph data set and a part of it."""
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:
        raise ConfigError(
            f"{owner} was given {kind_of(model)} for its model, which scores no links: a model is a module with "
            "parameters. Give one such as GRSNN(2 * len(data.relations))."
        )
    check_instance(owner, "data", data, GraphData, "load_graph('family')")
    check_instance(owner, "split", split, GraphSplit, "data.test")


def evaluate(
    model: LinkScorer,
    data: GraphData,
    split: GraphSplit,
    *,
    batch: int = 32,
    ties: Ties = "expected",
    sampled: bool = False,
) -> dict[str, float]:
    """Return filtered ranking metrics of a model on a split, or classification metrics on a homogeneous graph.

    Each triple (h, r, t) of `split.queries` gives two queries, (h, r, ?) and (t, inverse of r, ?), ranked among all
    entities. Triples of `split.known` other than the answer itself are left out of the ranking. Queries that occur
    several times are scored once. On a homogeneous graph, linked pairs are classified against as many random unlinked
    pairs (fixed seed 0). Messages travel along `split.facts`. The model runs in evaluation mode without gradients; its
    mode is restored.

    **Cost**: one forward pass per `batch` distinct queries.

    Args:
        model: `LinkScorer` to evaluate.
        data: `GraphData` that the split belongs to.
        split: `GraphSplit` to evaluate on, such as `data.test`.
        batch: Queries per forward pass, at least 1. Default: 32.
        ties: Treatment of an answer whose score equals that of others: "expected" (mean of the metric over all orders
            of the tied), "realistic" (metric of the mean rank, as in PyKEEN), "optimistic" (of the first rank) or
            "pessimistic" (of the last rank, as in the published tables of NBFNet). Default: "expected".
        sampled: True also reports the expected Hits@10 among random candidates: `hits_at_10_of_50`, 49 rivals and the
            answer (the protocol of Teru et al.), and `hits_at_10_against_50`, 50 rivals (the first release of NBFNet,
            and GRSNN). Default: False.

    Returns:
        On a knowledge graph: `mr`, `mrr`, `hits_at_1`, `hits_at_3`, `hits_at_10` and `count` over answers; the metrics
        of `rank_metrics` averaged over queries, with the prefix `macro_`; and the metrics over answers for the three
        other tie rules, with the rule as suffix, such as `mrr_pessimistic`. On a homogeneous graph: `auroc`,
        `average_precision` and `count`.

    Raises:
        ConfigError: The graph has another number of relations than the model, or an argument is out of its range.
        InputError: A score is NaN, or there are no queries.
    """
    check_scored("evaluate", model, data, split)
    check_counts("evaluate", batch=batch)
    check_choice("evaluate", "ties", ties, SHARE_OF_TIES)
    check_flag("evaluate", sampled=sampled)
    if not len(split.queries):
        raise InputError(
            f"A model was to be evaluated on a part of '{data.name}' that has no queries, so there is nothing to rank. "
            "Give a part with queries, such as data.test."
        )
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
    by_query = rank_metrics(found.ranks(), groups=torch.cat(groups), tied=found.tied())
    others = {rule: found.result(rule) for rule in SHARE_OF_TIES if rule != ties}
    return {
        **found.result(),
        **{f"macro_{name}": value for name, value in by_query.items()},
        **{f"{name}_{rule}": each[name] for rule, each in others.items() for name in each if name != "count"},
    }


def _answered(
    model: LinkScorer, data: GraphData, split: GraphSplit, graph: RelationalGraph, batch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield scores, answers, filter masks and query numbers, one row per answer."""
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
    """Return AUROC and average precision on linked pairs and as many random unlinked pairs."""
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
