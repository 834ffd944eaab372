"""`spikewright explain`: what it writes and prints, and what it says to mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.cli import explain
from spikewright.cli.__main__ import main
from spikewright.graph import load_graph
from spikewright.graph._evaluate import graph_of
from spikewright.graph.data import GraphData
from spikewright.graph.models import NBFNet
from spikewright.graph.paths import explain as paths_of
from spikewright.train.checkpoint import load
from tests.train.support import SHORT

TREES = 2
TINY = ["--data", "family", "--set", f"data.trees={TREES}", "--model", "nbfnet", "--set", "model.width=4"]
TINY += ["--set", "model.layers=3", "--epochs", "1", "--set", "train.limit_batches=3"]


@pytest.fixture(scope="module")
def family() -> GraphData:
    return load_graph("family", trees=TREES)


@pytest.fixture(scope="module")
def reasoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that no test writes to, of which the best weights are left."""
    out = tmp_path_factory.mktemp("explain") / "run"
    assert main(["reason", *TINY, "--quiet", "--out", str(out)]) == 0
    (out / "last.safetensors").unlink()
    return out


def scored(run: Path, data: GraphData, source: int, kind: int, without: list[int] | None = None) -> torch.Tensor:
    """The score of every entity, by the best weights of a run."""
    model = NBFNet(34, width=4, layers=3)
    model.load_state_dict(load(run / "best.safetensors")["parts"]["model"])
    graph = graph_of(data, data.test)
    kept = None if without is None else graph.without(torch.tensor([without]))
    with torch.no_grad():
        return model.eval()(graph, torch.tensor([source]), torch.tensor([kind]), None, kept)[0]


def test_the_first_question_of_the_test_is_explained_by_default(
    says: Any, reasoned: Path, family: GraphData, tmp_path: Path
) -> None:
    status, out, err = says("explain", reasoned, "--top", 3, "--json", "why.json")
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "why.json").read_text())
    assert (result["run"], result["data"], result["model"]) == (str(reasoned), "family", "nbfnet")
    (answer,) = result["answers"]
    head, relation, tail = family.test.queries[0].tolist()
    names = family.test.entities[head], family.relations[relation], family.test.entities[tail]
    assert (answer["head"], answer["relation"], answer["tail"]) == names
    assert answer["known"] is True and f"{names[0]} -{names[1]}-> {names[2]} · true" in " ".join(out.split())
    scores = scored(reasoned, family, head, relation)
    assert answer["score"] == pytest.approx(scores[tail].item(), rel=1e-5)
    others = family.test.known[(family.test.known[:, :2] == family.test.queries[0, :2]).all(1), 2]
    rivals = torch.tensor([n for n in range(len(scores)) if n not in others.tolist()])
    above, level = (scores[rivals] > scores[tail]).sum(), (scores[rivals] == scores[tail]).sum()
    assert answer["rank"] == 1 + above.item() + level.item() / 2
    assert len(answer["paths"]) == 3
    for path in answer["paths"]:
        assert path["edges"][0][0] == names[0] and path["edges"][-1][2] == names[2]
        assert path["text"].startswith(names[0]) and path["text"].endswith(names[2])
        assert f"{path['weight']:.4f}" in out


def test_it_is_what_the_function_finds(reasoned: Path, family: GraphData) -> None:
    fact = tuple(family.train.facts[3].tolist())
    head, relation, tail = family.test.entities[fact[0]], family.relations[fact[1]], family.test.entities[fact[2]]
    found = explain(reasoned, head, relation, tail, top=4, beams=3, length=2, quiet=True)
    (answer,) = found["answers"]
    model = NBFNet(34, width=4, layers=3)
    model.load_state_dict(load(reasoned / "best.safetensors")["parts"]["model"])
    expected = paths_of(model, family, family.test, fact, top=4, beams=3, length=2)
    assert [path["text"] for path in answer["paths"]] == [str(path) for path in expected] != []
    assert all(len(path["edges"]) <= 2 and [head, relation, tail] not in path["edges"] for path in answer["paths"])
    without = scored(reasoned, family, fact[0], fact[1], list(fact))[fact[2]].item()
    assert answer["score"] == pytest.approx(without, rel=1e-5)
    assert answer["score"] != pytest.approx(scored(reasoned, family, fact[0], fact[1])[fact[2]].item(), rel=1e-5)


@pytest.mark.parametrize("back", [False, True])
def test_without_a_tail_the_best_answers_that_are_no_facts_are_explained(
    says: Any, reasoned: Path, family: GraphData, back: bool
) -> None:
    first, last = (2, 0) if back else (0, 2)
    facts = family.test.facts

    def told(question: torch.Tensor) -> torch.Tensor:
        return facts[(facts[:, first] == question[first]) & (facts[:, 1] == question[1]), last]

    question = next(question for question in family.test.queries if len(told(question)))
    source, relation = int(question[first]), int(question[1])
    kind = relation + back * len(family.relations)
    asked = family.test.entities[source], family.relations[relation] + back * "^-1"
    scores = scored(reasoned, family, source, kind).index_fill(0, told(question), -torch.inf)
    expected = scores.sort(descending=True, stable=True)
    number = len(scores) - len(told(question))
    answers = explain(reasoned, *asked, answers=1000, length=1, quiet=True)["answers"]
    assert [family.test.entities.index(answer["tail"]) for answer in answers] == expected.indices[:number].tolist()
    assert [answer["score"] for answer in answers] == pytest.approx(expected.values[:number].tolist(), rel=1e-5)
    (known,) = (answer for answer in answers if answer["tail"] == family.test.entities[question[last]])
    assert known["known"] is True and known["relation"] == asked[1]
    status, out, _ = says("explain", reasoned, "--head", asked[0], "--relation", asked[1], "--answers", 2)
    arrow = f"{asked[0]} <-{family.relations[relation]}- " if back else f"{asked[0]} -{asked[1]}-> "
    titles = [line for line in out.splitlines() if line.startswith(arrow) and "score" in line]
    assert status == 0 and [title.split()[2] for title in titles] == [answer["tail"] for answer in answers[:2]]


def test_a_pair_that_nothing_links_has_no_paths(says: Any, reasoned: Path) -> None:
    question = ["--head", "tree0.person0", "--relation", "wife", "--tail", "tree1.person0"]
    status, out, _ = says("explain", reasoned, *question, "--length", 3)
    assert status == 0 and "not known" in out and "there is none of up to 3 edges" in out


WRONG = {
    "--head tree0.person0": "without --head or --relation. Give both",
    "--tail tree0.person0": "without --head or --relation",
    "--head tree0.perso0 --relation wife": "no entity 'tree0.perso0', so that it cannot be asked about. Near",
    "--head tree0.person0 --relation wive": "no relation 'wive', so that it cannot be asked about. Near it are: wife",
    "--head ÄÖÜ --relation wife": "The first ones are: tree0.person0, tree0.person1",
    "--top 0": "top=0",
    "--answers 0": "--answers 0: at least 1 is needed",
}


@pytest.mark.parametrize("line", WRONG)
def test_mistakes_are_one_message(says: Any, reasoned: Path, line: str) -> None:
    status, out, err = says("explain", reasoned, *line.split())
    assert (status, out) == (2, "")
    assert WRONG[line] in err and "Traceback" not in err


@pytest.mark.long
def test_names_are_printed_as_they_are(says: Any, tmp_path: Path) -> None:
    """Neither read as markup or emoji, nor escaped."""
    names = ["[bold]x[/bold]", ":cat: [/]", "a\\b", "é'\"", "[link=y]"]
    lines = [f"{a}\t[red]\t{b}\n" for n, a in enumerate(names) for b in (names[n - 1], names[n - 2])]
    for part, chosen in (("train", lines[:-1]), ("test", lines[-1:])):
        (tmp_path / f"{part}.txt").write_text("".join(chosen), encoding="utf-8")
    tiny = ["--data", "folder", "--data-dir", ".", "--model", "nbfnet", "--set", "model.width=4", "--epochs", "1"]
    assert says("reason", *tiny, "--out", "[run]")[0] == 0
    for head in names:
        status, out, _ = says("explain", "[run]", "--head", head, "--relation", "[red]", "--answers", 5, "--length", 2)
        flat = "".join(out.split()).replace("│", "")
        assert status == 0 and f"{head}-[red]->".replace(" ", "") in flat
        assert all(name.replace(" ", "") in flat for name in names)
    status, _, err = says("explain", "[run]", "--head", "[bold]y", "--relation", "[red]")
    assert status == 2 and "no entity '[bold]y'" in err and "[bold]x[/bold]" in err


def test_only_runs_of_reason_have_paths(says: Any, tmp_path: Path) -> None:
    assert "There is no checkpoint" in says("explain", tmp_path)[2]
    assert says("train", *SHORT, "--set", "data.validation=0.2", "--quiet", "--out", "other")[0] == 0
    assert "other was made by `spikewright train`, but a run of `spikewright reason`" in says("explain", "other")[2]


def test_pairs_of_a_homogeneous_graph_have_paths_but_no_ranks(says: Any, tmp_path: Path) -> None:
    import pickle

    linked = {number: [(number + 1) % 12, (number + 5) % 12] for number in range(12)}
    (tmp_path / "ind.cora.graph").write_bytes(pickle.dumps(linked))
    tiny = ["--data", "cora", "--data-dir", ".", "--model", "nbfnet", "--set", "model.width=4", "--epochs", "1"]
    assert says("reason", *tiny, "--quiet", "--out", "links")[0] == 0
    assert says("explain", "links", "--quiet", "--json", "why.json")[0] == 0
    (answer,) = json.loads((tmp_path / "why.json").read_text())["answers"]
    assert answer["rank"] is None and answer["relation"] == "link" and answer["paths"]
    status, _, err = says("explain", "links", "--head", "0", "--relation", "link")
    assert status == 2 and "told apart rather than ranked, so there are no best answers. Give --tail" in err
