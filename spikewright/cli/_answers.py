"""What `spikewright explain` shows: facts, their scores and ranks, and the paths behind them."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from spikewright._util.trial import evaluating
from spikewright.cli.common import check_maker
from spikewright.errors import ConfigError
from spikewright.graph import paths
from spikewright.graph._evaluate import graph_of
from spikewright.graph.build import Reasoning, build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.graph.negative_sampling import known_answers
from spikewright.graph.ranking import RankingEvaluator
from spikewright.train.checkpoint import load

Fact = tuple[int, int, int]


def open_reasoning(run: Path, data_dir: Path | None, device: str | None) -> Reasoning:
    """Build the model of a run with its best weights, and its graph.

    Raises:
        CheckpointError: There is no sound checkpoint there, or the run is one of another command.
    """
    check_maker(run, "reason")
    saved = load(run / "best.safetensors")
    data = {"dir": None if data_dir is None else str(data_dir)}
    reasoning = build_reasoning(configure_reasoning(saved["config"], data=data, train={"device": device}))
    reasoning.model.load_state_dict(saved["parts"]["model"])
    return reasoning


def facts_of(
    reasoning: Reasoning, head: str | None, relation: str | None, tail: str | None, answers: int
) -> list[Fact]:
    """Return the facts to explain: the one that is given, answers to a question, or the first one of the test."""
    data, split = reasoning.data, reasoning.data.test
    if head is None and relation is None and tail is None:
        if not len(split.queries):
            raise ConfigError(f"The graph '{data.name}' has no test questions. Give --head and --relation.")
        return [tuple(split.queries[0].tolist())]
    if head is None or relation is None:
        raise ConfigError(
            "A question was asked without --head or --relation. Give both, and --tail if one answer matters; "
            f"a relation with {paths.INVERSE} behind its name is asked from tail to head."
        )
    source, kind = _number("entity", head, split.entities), _number("relation", relation, paths.relation_names(data))
    if tail is not None:
        return [(source, kind, _number("entity", tail, split.entities))]
    if data.homogeneous:
        raise ConfigError(
            f"The pairs of '{data.name}' are told apart rather than ranked, so there are no best answers. Give --tail."
        )
    told = known_answers(data, split.facts, split.entities).mask(torch.tensor([source]), torch.tensor([kind]))[0]
    scores = _scores(reasoning, source, kind).masked_fill(told, -torch.inf)
    best = scores.argsort(descending=True, stable=True)[: min(answers, int((~told).sum()))]
    return [(source, kind, answer) for answer in best.tolist()]


def _number(what: str, name: str, known: Sequence[str]) -> int:
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=5, cutoff=0.4)
    advice = f"Near it are: {', '.join(near)}." if near else f"The first ones are: {', '.join(known[:5])}."
    raise ConfigError(f"The graph has no {what} '{name}', so that it cannot be asked about. {advice}")


def _scores(reasoning: Reasoning, source: int, kind: int, answer: int | None = None) -> torch.Tensor:
    """Return the score of every entity, `[N]`, without the edge of the answer; of the answer alone if homogeneous."""
    data, model = reasoning.data, reasoning.model
    graph = graph_of(data, data.test)
    kept = None if answer is None else paths.edges_but_own(data, graph, (source, kind, answer)).to(reasoning.device)
    asked = [torch.tensor([number], device=reasoning.device) for number in (source, kind)]
    pair = torch.tensor([[answer]], device=reasoning.device) if data.homogeneous else None
    with evaluating(model), torch.no_grad():
        return model(graph.to(reasoning.device), *asked, pair, kept)[0].cpu()


def explained(reasoning: Reasoning, fact: Fact, beams: int, length: int, top: int) -> dict[str, Any]:
    """Return the score and the rank of a fact, and the paths that the score depends on most."""
    data, split = reasoning.data, reasoning.data.test
    source, kind, answer = fact
    scores, rank = _scores(reasoning, *fact), None
    known = known_answers(data, split.known, split.entities).mask(torch.tensor([source]), torch.tensor([kind]))
    if not data.homogeneous:
        rank = float(RankingEvaluator().add(scores[None], torch.tensor([answer]), known))
    found = paths.explain(reasoning.model, data, split, fact, beams=beams, length=length, top=top)
    return {
        "head": split.entities[source],
        "relation": paths.relation_names(data)[kind],
        "tail": split.entities[answer],
        "known": bool(known[0, answer]),
        "score": float(scores[0 if data.homogeneous else answer]),
        "rank": rank,
        "paths": [{"weight": path.weight, "edges": [*map(list, path.edges)], "text": str(path)} for path in found],
    }
