"""A command accepts no key that it does not read."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from spikewright.continual import build_continual, configure_continual, learn
from spikewright.continual import config as continual_config
from spikewright.graph import config as graph_config
from spikewright.graph.build import build_reasoning
from spikewright.graph.config import configure_reasoning
from spikewright.graph.fit import fit
from spikewright.train import build, configure, feed, train_experiment
from spikewright.train import config as train_config
from tests.train.support import TINY

NOT_USES = ("dataclasses", "spikewright.train.settings")
"""Modules that look at every key to copy or check it, which is no use of it."""


def noting(kind: Any, read: set[str]) -> Any:
    """A settings class whose objects note which of their keys are used."""
    names = {field.name for field in dataclasses.fields(kind)}

    def get(self: Any, name: str) -> Any:
        caller = sys._getframe(1)
        if name in names and caller.f_globals["__name__"] not in NOT_USES and caller.f_code.co_name != "check":
            read.add(f"{kind.__name__}.{name}")
        return object.__getattribute__(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": get})


def watched(patch: pytest.MonkeyPatch, *places: tuple[Any, str]) -> tuple[set[str], set[str]]:
    """Return the keys of settings classes, and the set that will hold those that are read."""
    read: set[str] = set()
    keys: set[str] = set()
    for module, name in places:
        kind = getattr(module, name)
        keys |= {f"{name}.{field.name}" for field in dataclasses.fields(kind)}
        patch.setattr(module, name, noting(kind, read))
    return keys, read


def test_those_of_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, read = watched(monkeypatch, (train_config, "TrainSettings"), (feed, "Presentation"))
    config = configure(TINY, ["data.validation=0.2", "train.accumulate=2", "train.checkpoint_every=1"])
    train_experiment(build(config), tmp_path / "run")
    assert keys - read == set()


def test_those_of_continual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = (train_config, "TrainSettings"), (feed, "Presentation"), (continual_config, "ContinualSettings")
    keys, read = watched(monkeypatch, *places)
    changes = ["continual.rehearse_samples=2", "continual.probe_dense=1", "data.validation=0.2"]
    config = configure_continual(TINY, changes, scenario={"name": "split", "tasks": 2}, rule="ottt")
    learn(build_continual(config), tmp_path / "run")
    assert keys - read == set()


def test_those_of_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, read = watched(monkeypatch, (graph_config, "GraphSettings"))
    small = ["data.trees=2", "data.generations=3", "model.width=4", "model.layers=1", "train.epochs=2"]
    fit(build_reasoning(configure_reasoning(None, small, data="family", model="nbfnet")), tmp_path / "run")
    assert keys - read == set()


def test_a_key_that_nothing_reads_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unread = dataclasses.make_dataclass("TrainSettings", [("idle", int, 0)], bases=(train_config.TrainSettings,),
                                        frozen=True)  # fmt: skip
    monkeypatch.setattr(train_config, "TrainSettings", unread)
    keys, read = watched(monkeypatch, (train_config, "TrainSettings"))
    train_experiment(build(configure(TINY, ["train.idle=3"])), tmp_path / "run")
    assert keys - read == {"TrainSettings.idle"}
