"""Processes that share every batch end with the weights of one that had it all."""

import json
import signal
import socket
from pathlib import Path

import pytest
import torch

from spikewright.cli.__main__ import main
from tests.train import children
from tests.train.children import Job
from tests.train.support import SHORT, history, same, weights

RULES = ["bptt", "ottt:online=true"]


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def command(rule: str, out: Path) -> list[str]:
    """Three full batches; with several processes one that is not full would be left out."""
    size = ["--set", "data.size=36", "--batch-size", "12", "--epochs", "1", "--set", "train.clip_norm=0.5"]
    return ["train", *SHORT, *size, "--set", "train.checkpoint_every=1", "--rule", rule, "--quiet", "--out", str(out)]


OTHERS = {
    "continual": "--benchmark split-digits --rule hlop:opzo --epochs 1 --steps 2 --batch-size 99 "
    "--set continual.only=2",
    "reason": "--data family --model grsnn --epochs 1 --batch-size 5 --set data.trees=2 --set data.generations=3 "
    "--set model.width=4 --set model.steps=5 --set train.limit_batches=5 --set train.accumulate=2",
}
"""Other commands, with batches that two processes cannot divide evenly."""


def other(name: str, out: Path) -> list[str]:
    return [name, *OTHERS[name].split(), "--quiet", "--out", str(out)]


def pair(*commands: list[str]) -> list[Job]:
    """Two processes that find each other by their environment, as torchrun would arrange it."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    return [
        {"arguments": arguments, "environment": {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}}
        for rank, arguments in enumerate(commands)
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second process is given a folder of its own, to see whether it writes."""
    out = tmp_path_factory.mktemp("distributed")
    whole = [
        pair(*([*command(rule, out / f"{rule} {n}"), "--json", str(out / f"{rule} {n}.json")] for n in range(2)))
        for rule in RULES
    ]
    others = [pair(*[other(name, out / name)] * 2) for name in OTHERS]
    killed = pair(*[command("bptt", out / "killed")] * 2)
    for job in killed:
        job["kill"] = {"batch": [0, 2]}
    again = pair(*[["train", "--resume", str(out / "killed"), "--quiet"]] * 2)
    ended = [[0, 0], [0, 0], [0, 0], [0, 0], [-signal.SIGKILL] * 2, [0, 0]]
    assert children.run(*whole, *others, killed, again) == ended
    return out


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.long
def test_two_processes_are_as_good_as_one(shared: Path, tmp_path: Path, rule: str) -> None:
    assert main(command(rule, tmp_path / "alone")) == 0
    alone, together = weights(tmp_path / "alone"), weights(shared / f"{rule} 0")
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands_share_their_batches_too(shared: Path, tmp_path: Path, name: str) -> None:
    assert main(other(name, tmp_path / "alone")) == 0
    alone, together = weights(tmp_path / "alone"), weights(shared / name)
    for key, weight in alone.items():
        torch.testing.assert_close(together[key], weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_figures_are_those_of_the_whole_batch(shared: Path, tmp_path: Path, rule: str) -> None:
    main(command(rule, tmp_path / "alone"))
    (alone,), (together,) = history(tmp_path / "alone"), history(shared / f"{rule} 0")
    assert float(together["train_loss"]) == pytest.approx(float(alone["train_loss"]), abs=1e-6)
    assert {k: together[k] for k in ("train_accuracy", "test_accuracy")} == {
        k: alone[k] for k in ("train_accuracy", "test_accuracy")
    }


@pytest.mark.parametrize("rule", RULES)
def test_only_the_first_process_writes(shared: Path, rule: str) -> None:
    assert len(list((shared / f"{rule} 0").iterdir())) == 6
    assert not (shared / f"{rule} 1").exists(), "the folder is what the first process says"
    assert json.loads((shared / f"{rule} 0.json").read_text())["rule"] == rule.partition(":")[0]
    assert not (shared / f"{rule} 1.json").exists()


def test_two_processes_that_were_killed_go_on(shared: Path) -> None:
    assert same(weights(shared / "killed"), weights(shared / "bptt 0"))


def test_their_figures_go_on_too(shared: Path) -> None:
    (killed,), (whole,) = history(shared / "killed"), history(shared / "bptt 0")
    assert float(killed["train_loss"]) == pytest.approx(float(whole["train_loss"]), rel=1e-9)
    assert killed["train_accuracy"] == whole["train_accuracy"]
