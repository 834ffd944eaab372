"""Learning: what a run leaves, that it can be gone on with, and what is said when it cannot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.errors import CheckpointError, ConfigError, NotFinite
from spikewright.graph._evaluate import evaluate, graph_of
from spikewright.graph.build import Reasoning, build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.graph.fit import fit
from spikewright.graph.negative_sampling import loss_of
from spikewright.train.checkpoint import load
from spikewright.train.log import Silent
from tests.graph.data.writing import write
from tests.graph.test_negative_sampling import citations
from tests.train.support import history, same, timeless

TINY = ["data.trees=2", "data.generations=3", "model.width=4", "train.batch_size=4", "train.negatives=3"]
TINY += ["train.accumulate=2", "train.checkpoint_every=3", "train.limit_batches=7", "train.epochs=3"]
"""Seven batches an epoch, two of them an update; a checkpoint after the third and the sixth, between two updates."""


def tiny(*overrides: str, model: str = "nbfnet") -> Reasoning:
    layers = ["model.layers=2"] if model == "nbfnet" else ["model.steps=5"]
    return build_reasoning(configure_reasoning(None, [*TINY, *layers, *overrides], data="family", model=model))


class Stopped(Exception):
    pass


class Stopping(Silent):
    """Stops a run after a batch (epoch, batch), and counts what it is told."""

    def __init__(self, *after: int) -> None:
        self.after, self.stopped, self.told = after, False, []

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        self.told.append((epoch, batch))
        if (epoch, batch) == self.after:
            raise Stopped

    def stop(self) -> None:
        self.stopped = True


def left(run: Path) -> list[Any]:
    """All that a run leaves, without times."""
    result = json.loads((run / "result.json").read_text())
    return [*(timeless(load(run / f"{n}.safetensors")) for n in ("last", "best")), timeless(result), history(run)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("fit") / "run"
    fit(tiny(), out)
    return out


@pytest.mark.parametrize(
    ("after", "stands"), [((0, 4), (0, 3)), ((1, 2), (1, 0)), ((1, 3), (1, 3)), ((2, 6), (2, 6))], ids=str
)
@pytest.mark.long
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    whole: Path, tmp_path: Path, after: tuple[int, int], stands: tuple[int, int]
) -> None:
    """Also from between two updates, where gradients are half added up."""
    reporter = Stopping(*after)
    with pytest.raises(Stopped):
        fit(tiny(), tmp_path / "run", reporter=reporter)
    assert reporter.stopped
    saved = load(tmp_path / "run" / "last.safetensors")
    assert (saved["progress"]["epoch"], saved["progress"]["batch"]) == stands
    assert bool(saved["parts"]["step"]["held"]) == (stands[1] == 3)
    torch.rand(5)
    rest = Stopping()
    fit(tiny(), tmp_path / "run", resume=True, reporter=rest)
    assert rest.told[0] == stands
    assert same(left(tmp_path / "run"), left(whole))


def test_a_spiking_model_goes_on_too(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tiny("train.epochs=2", model="grsnn+"), tmp_path / "one", reporter=Stopping(1, 4))
    fit(tiny("train.epochs=2", model="grsnn+"), tmp_path / "one", resume=True)
    fit(tiny("train.epochs=2", model="grsnn+"), tmp_path / "two")
    assert same(left(tmp_path / "one"), left(tmp_path / "two"))


def test_what_a_run_leaves(whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    assert {p.name for p in whole.iterdir()} == {
        "config.json",
        "log.csv",
        *(f"{n}.safetensors" for n in ("last", "best")),
        "result.json",
        "run.lock",
    }
    assert {"mrr", "hits_at_1", "hits_at_3", "hits_at_10", "energy", "seconds", "parameters"} <= result.keys()
    assert (result["data"], result["model"], result["seed"], result["epochs"]) == ("family", "nbfnet", 0, 3)
    reasoning = tiny()
    assert json.loads((whole / "config.json").read_text()) == result["config"] == reasoning.config
    assert result["parameters"] == sum(p.numel() for p in reasoning.model.parameters())
    rows = result["history"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert result["seconds"] == rows[-1]["seconds"] > rows[0]["seconds"] > 0
    measured = [row["validation"] for row in rows]
    assert result["validation"] == max(measured) and result["best_epoch"] == 1 + measured.index(max(measured))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_the_weights_that_are_best_are_tested(whole: Path) -> None:
    reasoning = tiny()
    best, last = (load(whole / f"{name}.safetensors") for name in ("best", "last"))
    best_progress, progress = best["progress"], last["progress"]
    assert progress["epoch"] == 3
    assert best_progress["rows"][-1]["validation"] == progress["best"] == best_progress["best"]
    reasoning.model.load_state_dict(best["parts"]["model"])
    result = json.loads((whole / "result.json").read_text())
    measured = evaluate(reasoning.model, reasoning.data, reasoning.data.test)
    assert {key: result[key] for key in measured} == measured
    assert evaluate(reasoning.model, reasoning.data, reasoning.data.valid)["mrr"] == result["validation"]


def test_later_weights_that_are_worse_are_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation is told to fall: the weights of the first epoch stay the best."""
    falling = iter([0.9, 0.5, 0.9, 0.123])
    asked = []
    monkeypatch.setattr("spikewright.graph.fit.evaluate", lambda *a, **k: asked.append(k) or {"mrr": next(falling)})
    result = fit(tiny("train.ties=optimistic", "train.evaluate_batch=5"), tmp_path / "run")
    assert asked == [{"batch": 5, "ties": "optimistic", "sampled": False}] * 4
    assert (result["best_epoch"], result["validation"], result["mrr"]) == (1, 0.9, 0.123)
    best, last = (load(tmp_path / "run" / f"{name}.safetensors")["parts"]["model"] for name in ("best", "last"))
    assert not same(best, last)


def test_it_is_measured_now_and_then_and_in_the_end(tmp_path: Path) -> None:
    result = fit(tiny("train.evaluate_every=2", "train.epochs=3"), tmp_path / "run")
    assert [row["validation"] is None for row in result["history"]] == [True, False, False]


@pytest.mark.parametrize("clip", [None, 0.05])
def test_an_epoch_by_hand(tmp_path: Path, clip: float | None) -> None:
    """Updates with the gradient of the mean over two batches, the last over what is left; what is asked is hidden."""
    sgd = ["optimizer.name=sgd", "optimizer.lr=0.1", "train.between=true", f"train.clip_norm={clip}"]
    fit(tiny("train.epochs=1", *sgd), tmp_path / "run")
    reasoning = tiny("train.epochs=1")
    model = reasoning.model.train()
    graph = graph_of(reasoning.data, reasoning.data.train)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, right, asked = [], 0, 0
    batches = list(reasoning.sampler.epoch(0))[:7]
    for group in (batches[0:2], batches[2:4], batches[4:6], batches[6:7]):
        optimizer.zero_grad()
        for batch in group:
            sources, answers = batch.sources.tolist(), batch.candidates.tolist()
            linked = {pair for s, row in zip(sources, answers) for a in row for pair in ((s, a), (a, s))}
            edge_weight = torch.tensor([float((s, t) not in linked) for s, _, t in graph.edges.tolist()])
            scores = model(graph, batch.sources, batch.relations, batch.candidates, edge_weight)
            loss = loss_of(scores, 0.5, False)
            (loss * len(scores) / sum(len(other.facts) for other in group)).backward()
            losses += [loss.item()] * len(scores)
            right += sum(bool((row[0] > row[1:]).all()) for row in scores)
            asked += len(scores)
        norm = torch.stack([p.grad.square().sum() for p in model.parameters() if p.grad is not None]).sum().sqrt()
        assert norm > 0.05
        for parameter in model.parameters():
            if parameter.grad is not None and clip is not None:
                parameter.grad *= 0.05 / (norm + 1e-6)
        optimizer.step()
    saved = load(tmp_path / "run" / "last.safetensors")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), saved["parts"]["model"][name], rtol=1e-4, atol=1e-5)
    row = saved["progress"]["rows"][0]
    assert row["train_loss"] == pytest.approx(sum(losses) / asked, rel=1e-4)
    assert row["train_accuracy"] == pytest.approx(right / asked)


def test_links_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikewright.graph.build.load_graph", lambda name, folder: citations())
    overrides = ["model.width=4", "model.steps=4", "train.epochs=2", "train.batch_size=4"]
    result = fit(build_reasoning(configure_reasoning(None, overrides, data="cora")), tmp_path / "run")
    assert {"auroc", "average_precision"} <= result.keys() and result["validation"] is not None
    assert all(0 <= row["train_accuracy"] <= 1 for row in result["history"])


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    train = "".join(f"e{n}\tr{n % 2}\te{(5 * n + 1) % 11}\n" for n in range(11))
    parts = {"train": train, "test": "e0\tr0\te5\ne0\tr0\te1\n"}
    write(tmp_path / "data", parts)
    config = configure_reasoning(
        None,
        ["model.width=4", "model.layers=1", "train.epochs=2"],
        data={"name": "folder", "dir": str(tmp_path / "data")},
        model="nbfnet",
    )
    with pytest.warns(UserWarning, match="'folder' has 1 of 2 test triples that are also facts"):
        reasoning = build_reasoning(config)
    result = fit(reasoning, tmp_path / "run")
    assert result["overlap"]["test_in_facts"] == 1 and result["overlap"]["valid_in_facts"] == 0
    assert result["best_epoch"] == 2 and result["validation"] is None and 0 < result["mrr"] <= 1
    assert [row["validation"] for row in result["history"]] == [None, None]


def test_an_inductive_graph_is_also_measured_among_fifty(tmp_path: Path) -> None:
    write(tmp_path / "fb237_v1")
    write(tmp_path / "fb237_v1_ind", {"train": "x\tlikes\ty\n", "valid": "z\tlikes\tx\n", "test": "w\thates\ty\n"})
    overrides = ["model.width=4", "model.steps=4", "train.epochs=1", "train.negatives=2"]
    config = configure_reasoning(None, overrides, data={"name": "fb237_v1", "dir": str(tmp_path)})
    result = fit(build_reasoning(config), tmp_path / "run")
    assert 0 <= result["hits_at_10_against_50"] <= result["hits_at_10_of_50"] <= 1


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    fit(tiny("train.epochs=1"), tmp_path / "run")
    reasoning = tiny("train.epochs=1")
    with torch.no_grad():
        reasoning.model.readout[0].bias.fill_(torch.inf)
    reporter = Stopping()
    with pytest.raises(
        NotFinite,
        match=r"in epoch 1, batch 1: the loss is nan. The first thing .* is the parameter 'readout.0.bias'",
    ):
        fit(reasoning, tmp_path / "other", reporter=reporter)
    assert reporter.stopped and not (tmp_path / "other" / "last.safetensors").exists()


def test_a_folder_that_holds_a_run_is_left_alone(whole: Path) -> None:
    before = left(whole)
    with pytest.raises(ConfigError, match=r"already holds a run\. Nothing was overwritten\. Continue it with --resume"):
        fit(tiny(), whole)
    assert same(left(whole), before)


def test_a_finished_run_is_read_again(whole: Path) -> None:
    before, reporter = left(whole), Stopping()
    fit(tiny(), whole, resume=True, reporter=reporter)
    assert same(left(whole), before) and not reporter.told


def test_a_run_is_resumed_as_it_was_begun(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"made with train\.negatives = 3, .* keeps its configuration"):
        fit(tiny("train.negatives=4"), whole, resume=True)
    with pytest.raises(CheckpointError, match="There is no run in"):
        fit(tiny(), tmp_path, resume=True)
