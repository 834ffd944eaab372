"""Training learns, and the folder of a run says what happened."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.train import evaluate, train_experiment
from spikewright.train.checkpoint import load
from tests.train.support import Tree, experiment, history, same, timeless, trained, weights

KEYS = {"rule", "model", "data", "seed", "steps", "epochs", "train_loss", "train_accuracy", "test_accuracy"}
KEYS |= {
    "digest",
    "test_loss",
    "firing_rates",
    "mean_firing_rate",
    "saved_bytes",
    "seconds",
    "parameters",
    "train_samples",
}
KEYS |= {
    "test_samples",
    "device",
    "versions",
    "config",
    "history",
    "energy",
    "unsolved_batches",
    "trouble",
    "alignment",
    "stopped_early",
    "changes",
    "validation_accuracy",
    "validation_loss",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with samples held out, for looking at."""
    torch.manual_seed(5)
    out = tmp_path_factory.mktemp("fit") / "new" / "run"
    trained(out, "data.validation=0.2", "optimizer.lr=0.02", "train.epochs=3", "train.seed=4")
    return out


@pytest.fixture(scope="module")
def result(run: Path) -> Tree:
    return json.loads((run / "result.json").read_text())


@pytest.mark.parametrize("rule", ["bptt", "sltt", "ottt"])
def test_it_learns(tmp_path: Path, rule: str) -> None:
    found = trained(tmp_path / rule, "optimizer.lr=0.02", "train.epochs=6", rule=rule)
    assert found["test_accuracy"] > 0.9
    assert found["history"][0]["train_loss"] > 2 * found["train_loss"]


def test_the_folder_holds_what_is_promised(run: Path) -> None:
    names = ["best.safetensors", "config.json", "last.safetensors", "log.csv", "result.json", "run.lock"]
    assert sorted(path.name for path in run.iterdir()) == names


def test_files_are_as_open_as_the_umask_says(run: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in run.iterdir()} == {0o666 & ~umask}


def test_the_result_is_complete(result: Tree) -> None:
    assert set(result) == KEYS
    assert (result["rule"], result["model"], result["data"]) == ("ottt", "mlp", "synthetic")
    assert (result["seed"], result["steps"], result["epochs"]) == (4, 3, 3)
    assert (result["train_samples"], result["test_samples"], result["device"]) == (32, 40, "cpu")
    assert result["parameters"] == 64 * 16 + 16 + 16 * 4 + 4
    assert result["seconds"] > 0 and result["saved_bytes"] > 0
    assert {"spikewright", "torch", "numpy", "python", "threads"} <= set(result["versions"])


def test_firing_rates_are_by_site(result: Tree) -> None:
    assert list(result["firing_rates"]) == ["features.2"]
    assert 0 < result["firing_rates"]["features.2"] < 1
    assert result["mean_firing_rate"] == result["firing_rates"]["features.2"]


def test_the_result_agrees_with_the_last_row(result: Tree) -> None:
    last = result["history"][-1]
    for key in ("train_loss", "train_accuracy", "test_accuracy", "test_loss", "seconds"):
        assert result[key] == last[key]
    assert last["firing_rate"] == result["mean_firing_rate"]


def test_the_log_is_the_history(run: Path, result: Tree) -> None:
    rows = history(run)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    shown = [{key: str(value) for key, value in row.items()} for row in timeless(result["history"])]
    assert rows == shown


def test_the_configuration_is_kept_with_every_default(run: Path, result: Tree) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config == result["config"] == load(run / "last.safetensors")["config"]
    assert config["train"]["amp"] == "off" and config["rule"]["online"] is False


def test_the_result_is_what_is_returned(tmp_path: Path) -> None:
    returned = trained(tmp_path / "run")
    assert returned == json.loads((tmp_path / "run" / "result.json").read_text())


def test_the_last_checkpoint_holds_the_weights_of_the_result(tmp_path: Path) -> None:
    built = experiment()
    found = train_experiment(built, tmp_path / "run")
    assert same(weights(tmp_path / "run"), dict(built.net.module.state_dict()))
    score = evaluate(built.net, built.measuring(built.dataset.test), built.loss)
    assert (score.accuracy, score.loss) == (found["test_accuracy"], found["test_loss"])


def test_training_figures_are_means_over_samples(tmp_path: Path) -> None:
    """With a learning rate of zero they are those of the untrained network, also over a last batch that is not full."""
    built = experiment("train.batch_size=15", "train.epochs=1", "optimizer.lr=1e-30")
    before = evaluate(built.net, built.measuring(built.dataset.train), built.loss)
    found = train_experiment(built, tmp_path / "run")
    assert found["train_loss"] == pytest.approx(before.loss, rel=1e-6)
    assert found["train_accuracy"] == pytest.approx(before.accuracy)


def test_evaluation_is_of_the_mode_and_leaves_it(tmp_path: Path) -> None:
    built = experiment(model={"name": "conv", "channels": [4], "hidden": 8, "norm": "batch"})
    statistics = {name: b.clone() for name, b in built.net.module.named_buffers()}
    built.net.train()
    first = evaluate(built.net, built.measuring(built.dataset.test), built.loss)
    assert built.net.training
    assert same(statistics, dict(built.net.module.named_buffers()))
    assert first == evaluate(built.net, built.measuring(built.dataset.test, batch_size=256), built.loss)


def test_a_score_does_not_depend_on_how_samples_are_batched() -> None:
    built = experiment()
    whole, parts = (evaluate(built.net, built.measuring(built.dataset.test, size), built.loss) for size in (40, 7))
    assert (whole.accuracy, whole.samples) == (parts.accuracy, parts.samples)
    assert whole.loss == pytest.approx(parts.loss, rel=1e-6)
    assert whole.rates["features.2"] == pytest.approx(parts.rates["features.2"], rel=1e-6)


def test_memory_is_measured_by_rule(tmp_path: Path) -> None:
    sizes = {rule: trained(tmp_path / rule, "train.epochs=1", rule=rule)["saved_bytes"] for rule in ("bptt", "ottt")}
    assert sizes["bptt"] > 2 * sizes["ottt"]


def test_events_are_written_on_request(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    trained(tmp_path / "run", "train.tensorboard=true")
    assert list((tmp_path / "run" / "events").glob("events.out.tfevents.*"))


class Notes:
    """A reporter that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def start(self, name: str, batches: int | None, epochs: int, epoch: int, batch: int) -> None:
        self.heard.append(("start", name, batches, epochs, epoch, batch))

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        assert means["loss"] > 0 and 0 <= means["accuracy"] <= 1
        self.heard.append((epoch, batch))

    def epoch(self, row: dict[str, Any]) -> None:
        self.heard.append(("epoch", row["epoch"]))

    def note(self, text: str) -> None:
        self.heard.append((text,))

    def stop(self) -> None:
        self.heard.append(("stop",))


def test_a_reporter_hears_of_everything_once(tmp_path: Path) -> None:
    notes = Notes()
    train_experiment(experiment(), tmp_path / "run", reporter=notes)
    first, second = ([(epoch, batch) for batch in range(4)] for epoch in range(2))
    assert notes.heard == [("start", "", 4, 2, 0, 0), *first, ("epoch", 1), *second, ("epoch", 2), ("stop",)]
