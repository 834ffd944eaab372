"""Taking up a run again: where it may be taken up, with what, and what that must not change."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spikewright.errors import CheckpointError
from spikewright.train import train_experiment
from spikewright.train.checkpoint import load
from spikewright.train.log import Silent
from tests.train.support import Tree, experiment, files, history, same, timeless, trained, weights

VGG: Tree = {"name": "vgg", "layers": [4, "P", 4], "dropout": 0.3}
NOISY = ["train.checkpoint_every=1", "data.augment=crop", "schedule.warmup=0.5"]
"""Random masks, random images, and a rate that moves with every batch."""


class Interrupter(Silent):
    """Stops the run after a number of batches, which are counted over epochs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def interrupted(out: Path, after: int, *overrides: str, **sections: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_experiment(experiment(*overrides, **sections), out, reporter=Interrupter(after))


def resumed(out: Path, *overrides: str, **sections: Any) -> Tree:
    return train_experiment(experiment(*overrides, **sections), out, resume=True)


@pytest.mark.long
def test_a_run_may_stop_at_any_batch(tmp_path: Path) -> None:
    trained(tmp_path / "whole", *NOISY, rule="sltt", model=VGG)
    whole = timeless(load(tmp_path / "whole" / "last.safetensors"))
    for after in range(2, 9):
        out = tmp_path / str(after)
        interrupted(out, after, *NOISY, rule="sltt", model=VGG)
        resumed(out, *NOISY, rule="sltt", model=VGG)
        assert same(timeless(load(out / "last.safetensors")), whole)
        assert history(out) == history(tmp_path / "whole")


def test_running_means_of_the_epoch_go_on(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 7, *NOISY)
    progress = load(tmp_path / "run" / "last.safetensors")["progress"]
    assert (progress["epoch"], progress["batch"], progress["sums"]["loss"][1]) == (1, 2, 20)
    assert progress["sums"]["loss"][0] > 0 and len(progress["rows"]) == 1


def test_without_checkpoints_inside_an_epoch_it_is_begun_again(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    interrupted(tmp_path / "run", 7)
    assert load(tmp_path / "run" / "last.safetensors")["progress"]["batch"] == 0
    resumed(tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    first = trained(tmp_path / "run", "data.validation=0.2", rule="sltt", model=VGG)
    before = files(tmp_path / "run")
    assert resumed(tmp_path / "run", "data.validation=0.2", rule="sltt", model=VGG) == first
    assert files(tmp_path / "run") == before


def test_time_adds_up_over_sittings(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 7, *NOISY)
    spent = load(tmp_path / "run" / "last.safetensors")["progress"]["seconds"]
    assert resumed(tmp_path / "run", *NOISY)["seconds"] > spent > 0


def test_a_run_may_be_made_longer(tmp_path: Path) -> None:
    constant = "schedule.name=constant"
    trained(tmp_path / "run", "train.epochs=1", constant)
    resumed(tmp_path / "run", "train.epochs=3", constant)
    trained(tmp_path / "long", "train.epochs=3", constant)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "long"))
    assert history(tmp_path / "run") == history(tmp_path / "long")


FREE = ["train.checkpoint_every=2", "train.evaluate_every=2", "train.device=cpu", "data.dir=elsewhere"]


@pytest.mark.parametrize("override", FREE)
def test_what_does_not_change_the_weights_is_free(tmp_path: Path, override: str) -> None:
    trained(tmp_path / "whole")
    interrupted(tmp_path / "run", 5)
    resumed(tmp_path / "run", override)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


CHANGED = {
    "rule.online=true": "rule.online = False, but the configuration says True",
    "rule.name=sltt": "rule.name = 'ottt', but the configuration says 'sltt'",
    "model.hidden=[8]": "model.hidden = [16], but the configuration says [8]",
    "neuron.surrogate.name=atan": "neuron.surrogate = ",
    "loss.criterion.name=cross_entropy_mse": "loss.criterion = ",
    "optimizer.lr=0.1": "optimizer.lr = 0.002, but the configuration says 0.1",
    "optimizer.name=adamw": "optimizer.name = 'adam', but",
    "schedule.warmup=1.0": "schedule.warmup = 0.0, but",
    "train.seed=1": "train.seed = 0, but",
    "train.batch_size=20": "train.batch_size = 10, but",
    "train.steps=4": "train.steps = 3, but",
    "train.clip_norm=1.0": "train.clip_norm = None, but",
    "data.limit_train=20": "data.limit_train = None, but",
    "data.encoding=poisson": "data.encoding = 'direct', but",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resume") / "run"
    trained(out)
    return out


@pytest.mark.parametrize("override", CHANGED)
def test_another_configuration_is_refused_by_name(run: Path, override: str) -> None:
    before = files(run)
    message = CHANGED[override].replace("[", r"\[")
    with pytest.raises(CheckpointError, match=rf"made with {message}.*A resumed run keeps its configuration"):
        resumed(run, override)
    assert files(run) == before


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=rf"There is no run in {folder}"):
            resumed(folder)
    assert not list(tmp_path.iterdir())


def test_the_table_is_made_again_from_the_checkpoint(tmp_path: Path) -> None:
    """Even if it was lost: the checkpoint is the record."""
    trained(tmp_path / "run")
    rows = history(tmp_path / "run")
    (tmp_path / "run" / "log.csv").unlink()
    result = resumed(tmp_path / "run", "train.epochs=3")
    assert len(history(tmp_path / "run")) == 3 == result["epochs"]
    assert history(tmp_path / "run")[:2] == rows
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
