"""A continual-learning run from end to end: forgetting, and resuming after an interruption."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from spikewright.continual import build_continual, configure_continual, learn
from spikewright.errors import CheckpointError, ConfigError, DatasetMissing, IncompatibleRule
from spikewright.rules import HLOP, Naive
from spikewright.train import checkpoint
from spikewright.train.config import rule_table
from spikewright.train.log import Silent

SHORT = {
    "data": {"name": "synthetic", "classes": 6, "size": 120},
    "scenario": {"name": "split", "tasks": 3},
    "model": {"name": "mlp", "hidden": [20]},
    "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "train": {"epochs": 2, "batch_size": 16, "steps": 3},
}


def run_of(rule: str = "hlop:ottt", *overrides: str, **changes: Any) -> Any:
    return build_continual(configure_continual({**SHORT, **changes}, overrides, rule=rule_table(rule)))


class Stop(Exception):
    """The power is cut."""


class Cut(Silent):
    """Stops a run after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def batch(self, epoch: int, batch: int, means: Mapping[str, float]) -> None:
        self.left -= 1
        if not self.left:
            raise Stop


@pytest.mark.long
def test_hlop_keeps_what_naive_learning_forgets(tmp_path: Path) -> None:
    found = {}
    for rule in ("hlop:bptt", "naive:bptt"):
        config = configure_continual(name="split-digits", rule=rule_table(rule), overrides=["train.epochs=10"])
        found[rule] = learn(build_continual(config), tmp_path / rule.replace(":", "-"))
    assert found["hlop:bptt"]["forgetting"] < 0.02
    assert found["naive:bptt"]["forgetting"] > 0.15
    assert found["hlop:bptt"]["acc"] > 0.93


@pytest.mark.parametrize(
    "rule", ["naive:sltt", "hlop:ottt", "hlop:dsr", "hlop:opzo", "gpm:bptt", "ewc:sltt", "replay:sltt", "lwf:bptt"]
)
def test_every_way_runs_with_heads(rule: str, tmp_path: Path) -> None:
    result = learn(run_of(rule), tmp_path)
    assert result["rule"] == rule and [len(row) for row in result["accuracy_matrix"]] == [1, 2, 3]
    assert all(row[-1] > 0.8 for row in result["accuracy_matrix"])
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_heads_are_left_free_and_shared_outputs_are_not() -> None:
    assert run_of().rule.free == ("readout",)
    shared = run_of("hlop:ottt", "scenario.heads=false").rule
    assert isinstance(shared, HLOP) and shared.free == () and "readout" in shared.subspaces
    assert isinstance(run_of("sltt").rule, Naive)


@pytest.mark.parametrize("rule", ["hlop:ottt", "hlop:opzo", "gpm:sltt", "ewc:sltt", "replay:sltt", "lwf:sltt"])
@pytest.mark.parametrize("batches", [2, 5, 11])
@pytest.mark.long
def test_a_run_that_is_cut_ends_with_the_weights_of_one_that_is_not(rule: str, batches: int, tmp_path: Path) -> None:
    changes = ["scenario.tasks=3", "continual.probe_every=2", "continual.probe_samples=20"]
    whole = run_of(rule, *changes)
    expected = learn(whole, tmp_path / "whole")
    with pytest.raises(Stop):
        learn(run_of(rule, *changes), tmp_path / "cut", reporter=Cut(batches))
    run, resume = run_of(rule, *changes), (tmp_path / "cut" / "last.safetensors").exists()
    result = learn(run, tmp_path / "cut", resume=resume)
    for part, other in ((run.net, whole.net), (run.rule, whole.rule)):
        found, wanted = part.state_dict(), other.state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert resume == (batches > 3)
    assert result["accuracy_matrix"] == expected["accuracy_matrix"]
    assert result["trajectory"] == expected["trajectory"] and result["monitor"] == expected["monitor"]


@pytest.mark.long
def test_probes_do_not_change_what_is_learned(tmp_path: Path) -> None:
    probed, plain = run_of("hlop:opzo", "continual.probe_every=1"), run_of("hlop:opzo")
    assert learn(probed, tmp_path / "probed")["monitor"]["min_acc"] is not None
    assert learn(plain, tmp_path / "plain")["monitor"] is None
    pairs = zip(probed.net.state_dict().values(), plain.net.state_dict().values())
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.long
def test_rehearsal_learns_old_tasks_again_without_protection(tmp_path: Path) -> None:
    plain = learn(run_of("naive:sltt"), tmp_path / "plain")
    settings = ["continual.rehearse_samples=5", "continual.rehearse_epochs=5", "continual.rehearse_lr=0.05"]
    again = learn(run_of("naive:sltt", *settings), tmp_path / "again")
    assert plain["accuracy_matrix"][0] == again["accuracy_matrix"][0]
    assert plain["accuracy_matrix"][1] != again["accuracy_matrix"][1]
    assert again["acc"] >= plain["acc"]


def test_a_run_with_a_shared_head_projects_the_readout_too(tmp_path: Path) -> None:
    run = run_of("hlop:bptt", "scenario.heads=false", "model.bias=false")
    result = learn(run, tmp_path)
    assert set(result["subspaces"]) == {"features.1", "readout"}
    assert all(0 < s["rows"] <= s["size"] and s["orthogonality_error"] < 1 for s in result["subspaces"].values())


def test_the_learning_rate_may_change_from_the_second_task_on() -> None:
    run = run_of("naive:sltt", "continual.later_lr=0.01")
    rates = [run.experiment(i, run.scenario.task(i)).optimizer.param_groups[0]["initial_lr"] for i in (0, 1)]
    assert rates == [0.1, 0.01]


def test_an_optimizer_that_would_move_what_is_protected_is_refused_before_the_first_task() -> None:
    adam = {"name": "adam", "lr": 0.01}
    with pytest.raises(IncompatibleRule, match="Adam scales the entries of a gradient"):
        run_of("hlop:ottt", optimizer=adam)
    with pytest.raises(IncompatibleRule, match="weight decay"):
        run_of("gpm:ottt", "optimizer.weight_decay=0.001")
    run_of("hlop:ottt", "scenario.tasks=1", optimizer=adam)
    run_of("naive:ottt", optimizer=adam)


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    learn(run_of(), tmp_path)
    with pytest.raises(ConfigError, match="already holds a run"):
        learn(run_of(), tmp_path)
    with pytest.raises(CheckpointError, match=r"made with rule\.rule = "):
        learn(run_of("hlop:sltt"), tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="There is no run in"):
        learn(run_of(), tmp_path / "nowhere", resume=True)


def test_a_benchmark_brings_what_its_authors_used() -> None:
    config = configure_continual(name="pmnist", rule=rule_table("hlop:dsr"))
    assert config.config.rule["rows"]["features.3"][:2] == [200, 70]
    assert (config.config.train.steps, config.config.neuron["name"], config.config.loss["name"]) == (
        20, "dsrlif", "on_rate",
    )  # fmt: skip
    other = configure_continual(name="pmnist", rule=rule_table("naive:ottt"))
    assert (other.config.train.steps, other.config.neuron["name"], other.config.loss["name"]) == (6, "lif", "per_step")
    assert "rows" not in other.config.rule
    changed = configure_continual({"benchmark": "pmnist", "train": {"epochs": 3}}, rule=rule_table("hlop:rows=7:bptt"))
    assert (changed.config.rule["rows"], changed.config.train.epochs, changed.config.train.batch_size) == (7, 3, 64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "pmnst"}, "benchmark 'pmnst' is unknown. Did you mean 'pmnist'"),
        ({}, "There are no tasks"),
        ({"overrides": ["scenario.name=split", "continual.probe=3"]}, "continual.probe is not a setting"),
        ({"overrides": ["scenario.name=split", "continual.probe_every=0"]}, "probe_every = 0"),
        ({"recipe": {"scenari": {}}}, "section 'scenari', which is unknown"),
    ],
)
def test_mistakes_in_a_configuration_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure_continual(**given)


def test_missing_data_are_named_before_anything_is_learned() -> None:
    with pytest.raises(DatasetMissing, match="mnist"):
        build_continual(configure_continual(name="pmnist", data={"dir": "/nowhere"}))


def test_a_checkpoint_of_a_task_that_is_done_needs_no_optimizer(tmp_path: Path) -> None:
    learn(run_of(), tmp_path)
    assert set(checkpoint.load(tmp_path / "last.safetensors")["parts"]) == {"model", "rule", "course"}
