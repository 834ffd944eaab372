"""`spikewright explain`."""

from pathlib import Path
from typing import Any

from spikewright.cli.common import check_positive, check_writable, print_table, write_json


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
        its filtered rank (the mean rank if others are level with it; none in a homogeneous graph), and paths of a
        weight, edges and text.
    """
    from spikewright.cli._answers import explained, facts_of, open_reasoning

    check_writable(json)
    check_positive(answers=answers)
    reasoning = open_reasoning(run, data_dir, device)
    facts = facts_of(reasoning, head, relation, tail, answers)
    found = [explained(reasoning, fact, beams, length, top) for fact in facts]
    names = {"run": str(run), "data": reasoning.data.name, "model": reasoning.config["model"]["name"]}
    result = {**names, "answers": found}
    write_json(json, result)
    if not quiet:
        for answer in found:
            _show(answer, length)
    return result


def _show(answer: dict[str, Any], length: int) -> None:
    from spikewright.graph import paths

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
