"""`spikewright explain`."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from spikewright._util.trial import evaluating
from spikewright.cli.common import check_writable, print_table, write_json
from spikewright.errors import CheckpointError, ConfigError
from spikewright.graph import paths
from spikewright.graph._evaluate import graph_of
from spikewright.graph.build import Reasoning, build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.graph.negative_sampling import known_answers
from spikewright.graph.ranking import RankingEvaluator
from spikewright.train.checkpoint import load

Fact = tuple[int, int, int]


def explain(
    run: Path,
    head: str | None = None,
    relation: str | None = None,
    tail: str | None = None,
    answers: int = 3,
    top: int = 10,
    beams: int = 10,
    length: int = 4,
    data_dir: Path | None = None,
    device: str | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Show why a model that `reason` trained gives an answer: the paths that its score depends on most.

    Without a question it is the first one of the test. The test part of the graph is what it reasons over.

    For instance: spikewright explain runs/grsnn-family-seed0 --head tree1.person0 --relation grandfather

    Args:
        run: Folder of the run; its best weights by validation are used.
        head: Entity that the question starts from.
        relation: What is asked; with ^-1 behind its name it is asked from tail to head.
        tail: The answer; without it, the best ones that are not already among the facts.
        answers: How many answers to explain if no tail is given.
        top: Most paths of an answer.
        beams: How many paths to each entity are followed in the search.
        length: Most edges of a path.
        data_dir: Folder with the files of the graph, if it has moved.
        device: cpu, cuda or auto.
        json: Also write the result to this file.
        quiet: Print nothing.

    Returns:
        `run`, `data`, `model` and `answers`; each has head, relation, tail, whether it is known to be true, its score,
        its filtered rank (none in a homogeneous graph), and paths of a weight, edges and text.
    """
    check_writable(json)
    if answers < 1:
        raise ConfigError(f"--answers {answers}: at least 1 is needed.")
    reasoning = _open(run, data_dir, device)
    facts = _asked(reasoning, head, relation, tail, answers)
    found = [_explained(reasoning, fact, beams, length, top) for fact in facts]
    names = {"run": str(run), "data": reasoning.data.name, "model": reasoning.config["model"]["name"]}
    result = {**names, "answers": found}
    write_json(json, result)
    if not quiet:
        for answer in found:
            _show(answer, length)
    return result


def _open(run: Path, data_dir: Path | None, device: str | None) -> Reasoning:
    saved = load(run / "best.safetensors")
    if "rule" in saved["config"]:
        raise CheckpointError(
            f"{run} is not a run of `spikewright reason`, and nothing else has paths to show. Give the folder of one."
        )
    data = {"dir": None if data_dir is None else str(data_dir)}
    reasoning = build_reasoning(configure_reasoning(saved["config"], data=data, train={"device": device}))
    reasoning.model.load_state_dict(saved["parts"]["model"])
    return reasoning


def _asked(reasoning: Reasoning, head: str | None, relation: str | None, tail: str | None, answers: int) -> list[Fact]:
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


def _explained(reasoning: Reasoning, fact: Fact, beams: int, length: int, top: int) -> dict[str, Any]:
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


def _show(answer: dict[str, Any], length: int) -> None:
    asked = paths.Path(((answer["head"], answer["relation"], answer["tail"]),), 0.0)
    rank = "" if answer["rank"] is None else f" · rank {answer['rank']:g}"
    title = f"{asked} · {'true' if answer['known'] else 'not known'}{rank} · score {answer['score']:.3f}"
    rows = [(f"{path['weight']:.4f}", path["text"]) for path in answer["paths"]]
    print_table(
        title,
        ("weight", "path"),
        rows or [("", f"there is none of up to {length} edges that the score depends on")],
        texts=True,
    )
