"""What the settings of training do."""

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from spikewright.train import train_experiment
from spikewright.train.batch import BatchLearner
from spikewright.train.checkpoint import load
from spikewright.train.log import Silent
from tests.train.support import Tree, experiment, history, same, trained, weights

JOB = importlib.import_module("spikewright.train._rule_job")


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)
        trained(tmp_path / name, f"train.seed={seed}", "data.encoding=poisson")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_fewer_samples(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", "data.limit_train=12", "data.limit_test=8", "train.epochs=1")
    assert (found["train_samples"], found["test_samples"]) == (12, 8)


def test_a_batch_is_no_larger_than_the_data(tmp_path: Path) -> None:
    assert len(experiment("train.batch_size=1000").training) == 1


def test_evaluation_every_few_epochs_and_at_the_end(tmp_path: Path) -> None:
    trained(tmp_path / "run", "train.evaluate_every=2", "train.epochs=5", "data.validation=0.2")
    for key in ("test_accuracy", "test_loss", "firing_rate", "validation_accuracy"):
        assert [row[key] != "" for row in history(tmp_path / "run")] == [False, True, False, True, True]


def moved(folder: Path, *overrides: str) -> Tensor:
    """How far one step of plain gradient descent with rate 1 takes the weights."""
    built = experiment("train.epochs=1", "train.batch_size=40", "optimizer.lr=1.0", *overrides, optimizer="sgd")
    before = torch.cat([p.detach().flatten().clone() for p in built.net.parameters()])
    train_experiment(built, folder)
    return torch.cat([p.detach().flatten() for p in built.net.parameters()]) - before


def test_the_norm_of_the_gradient_is_clipped(tmp_path: Path) -> None:
    free = moved(tmp_path / "free")
    clipped = moved(tmp_path / "clipped", "train.clip_norm=0.01")
    assert free.norm() > 0.1
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm(), rtol=1e-3, atol=1e-5)
    assert torch.equal(free, moved(tmp_path / "wide", "train.clip_norm=1000.0"))


class Rates(Silent):
    """Notes the learning rate that follows each batch."""

    def __init__(self, built: Any) -> None:
        self.group, self.seen = built.optimizer.param_groups[0], [built.optimizer.param_groups[0]["lr"]]

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        self.seen.append(self.group["lr"])


@pytest.mark.parametrize(
    "schedule", ["cosine", {"name": "cosine", "per_epoch": True}, {"name": "steplr", "step_size": 1}]
)
def test_the_learning_rate_follows_the_schedule(tmp_path: Path, schedule: Any) -> None:
    built = experiment("optimizer.lr=1.0", schedule=schedule, optimizer="sgd")
    rates = Rates(built)
    train_experiment(built, tmp_path / "run", reporter=rates)
    if schedule == "cosine":
        assert rates.seen == pytest.approx([(1 + math.cos(math.pi * done / 8)) / 2 for done in range(9)])
    else:
        second = 0.1 if schedule["name"] == "steplr" else 0.5
        assert rates.seen == pytest.approx([1] * 5 + [second] * 4)


def test_an_online_rule_steps_at_every_time_step(tmp_path: Path) -> None:
    for rule, each in (({"name": "ottt", "online": True}, 3), ({"name": "ottt"}, 1)):
        built = experiment("train.epochs=1", rule=rule)
        train_experiment(built, tmp_path / str(each))
        first, *_ = built.optimizer.state_dict()["state"].values()
        assert int(first["step"]) == 4 * each


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_mixed_precision(tmp_path: Path, amp: str) -> None:
    found = trained(tmp_path / "run", f"train.amp={amp}", "train.clip_norm=1.0", "optimizer.lr=0.02")
    exact = trained(tmp_path / "exact", "train.clip_norm=1.0", "optimizer.lr=0.02")
    assert found["train_loss"] == pytest.approx(exact["train_loss"], rel=0.1)
    assert found["train_loss"] != exact["train_loss"]
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights(tmp_path / "run").values())
    scaler = load(tmp_path / "run" / "last.safetensors")["parts"]["step"]["scaler"]
    assert ("scale" in scaler) is (amp == "float16")


def scripted(patch: pytest.MonkeyPatch, built: Any, test: list[float], held: list[float]) -> None:
    """Let the evaluations of the loop find these accuracies, epoch by epoch."""
    scores: dict[int, Iterator[float]] = {id(built.dataset.test): iter(test), id(built.held_out): iter(held)}

    def score(net: Any, batches: Any, *given: Any) -> tuple[dict[str, float], dict[str, float], int]:
        return {"loss": 1.0, "accuracy": next(scores[id(batches.split)])}, {"features.2": 0.5}, 40

    patch.setattr(JOB, "means_over", score)


def best(run: Path) -> Tree:
    """Where the run stood when its best checkpoint was written."""
    return load(run / "best.safetensors")["progress"]


BEST = {
    "by validation": ([0.9, 0.1, 0.2], [0.2, 0.8, 0.5], 2),
    "not by test": ([0.1, 0.2, 0.9], [0.7, 0.6, 0.5], 1),
    "the last": ([0.9, 0.8, 0.7], [0.1, 0.2, 0.3], 3),
    "the first of equals": ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], 1),
}


@pytest.mark.parametrize("name", BEST)
def test_the_best_is_that_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    test, held, epoch = BEST[name]
    built = experiment("data.validation=0.2", "train.epochs=3")
    scripted(monkeypatch, built, test, held)
    train_experiment(built, tmp_path / "run")
    assert best(tmp_path / "run")["epoch"] == epoch
    assert best(tmp_path / "run")["best"] == max(held)
    assert same(weights(tmp_path / "run", "best"), weights(tmp_path / "run")) is (epoch == 3)
    assert load(tmp_path / "run" / "last.safetensors")["progress"]["best"] == max(held)


def test_epochs_without_evaluation_are_not_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = experiment("data.validation=0.2", "train.epochs=4", "train.evaluate_every=2")
    scripted(monkeypatch, built, [0.1, 0.9], [0.9, 0.1])
    train_experiment(built, tmp_path / "run")
    assert best(tmp_path / "run")["epoch"] == 2


class Losses(Silent):
    """What the processes together are said to have lost: a loss for each epoch."""

    def __init__(self, patch: pytest.MonkeyPatch, *losses: float) -> None:
        self.left = list(losses)
        learn = BatchLearner.__call__
        patch.setattr(BatchLearner, "__call__", lambda own, x, y: replace(learn(own, x, y), loss=self.left[0]))

    def epoch(self, row: Any) -> None:
        del self.left[0]


def test_without_validation_the_best_is_that_of_the_training_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = experiment("train.epochs=3")
    scripted(monkeypatch, built, [0.1, 0.2, 0.9], [])
    train_experiment(built, tmp_path / "run", reporter=Losses(monkeypatch, 3.0, 1.0, 2.0))
    assert (best(tmp_path / "run")["epoch"], best(tmp_path / "run")["best"]) == (2, -1.0)


def test_a_plateau_is_that_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = experiment("train.epochs=3", schedule="reducelronplateau")
    seen: list[float] = []
    monkeypatch.setattr(ReduceLROnPlateau, "step", lambda self, loss: seen.append(loss))
    train_experiment(built, tmp_path / "run", reporter=Losses(monkeypatch, 3.0, 1.0, 2.0))
    assert seen == [3.0, 1.0, 2.0]


def test_held_out_samples_are_not_learned_from() -> None:
    built = experiment("data.validation=0.2")
    assert built.held_out is not None
    learned = {image.numpy().tobytes() for image in built.dataset.train.images}
    held = {image.numpy().tobytes() for image in built.held_out.images}
    assert (len(learned), len(held), len(learned & held)) == (32, 8, 0)
    assert built.training.split is built.dataset.train
