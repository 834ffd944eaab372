"""A run that was killed outright goes on to exactly the weights of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spikewright.cli.__main__ import main
from spikewright.train.checkpoint import load
from tests.train import children
from tests.train.support import files, history, same, timeless


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


VGG = ["--model", "vgg", *sets("model.layers=[4, 'P', 4]", "model.dropout=0.3")]
CONV = ["--model", "conv", *sets("model.channels=[4]", "model.hidden=8", "model.norm=batch")]
SGD = sets("optimizer.name=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9")
COSINE = sets("schedule.warmup=0.5")
PLATEAU = sets("schedule.name=reducelronplateau", "schedule.patience=0", "schedule.threshold=1.0")
COMMON = ["--data", "synthetic", *sets("data.size=64", "data.augment=crop", "data.validation=0.25")]
COMMON += ["--steps", "3", "--epochs", "3", "--batch-size", "6", "--seed", "3", "--quiet"]
COMMON += sets("train.checkpoint_every=3")
"""Eight batches an epoch; a checkpoint after the third, the sixth and the last of them."""


@dataclass(frozen=True)
class Killed:
    """A run, how it is killed, and where its last checkpoint stands then: epoch and batches done."""

    flags: list[str]
    kill: dict[str, Any]
    stands: tuple[int, int]


RUNS = {
    "ottt": Killed(["--rule", "ottt", *VGG, *SGD, *COSINE], {"batch": [1, 4]}, (1, 3)),
    "ottt online": Killed(["--rule", "ottt:online=true", *VGG, *SGD, *COSINE], {"batch": [0, 3]}, (0, 3)),
    "sltt-k": Killed(["--rule", "sltt:k=2", *VGG, *SGD, *COSINE], {"batch": [1, 1]}, (1, 0)),
    "bptt": Killed(["--rule", "bptt", *VGG, *SGD, *COSINE, *sets("data.encoding=poisson")], {"batch": [2, 7]}, (2, 6)),
    "batch norm and adam": Killed(["--rule", "bptt", *CONV, *COSINE], {"batch": [1, 6]}, (1, 6)),
    "in a write": Killed(["--rule", "sltt:k=2", *VGG, *SGD, *COSINE], {"write": 8}, (1, 3)),
    "float16": Killed(["--rule", "ottt", *CONV, *COSINE, *sets("train.amp=float16")], {"batch": [1, 5]}, (1, 3)),
    "plateau": Killed(["--rule", "ottt", *VGG, *PLATEAU], {"batch": [2, 4]}, (2, 3)),
}


def command(name: str, out: Path) -> list[str]:
    return ["train", *RUNS[name].flags, *COMMON, "--out", str(out)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of these runs, each killed at its place."""
    out = tmp_path_factory.mktemp("killed")
    jobs = [[{"arguments": command(name, out / name), "kill": run.kill}] for name, run in RUNS.items()]
    assert children.run(*jobs) == [[-signal.SIGKILL]] * len(jobs)
    return out


def everything(run: Path) -> Any:
    """All that a run leaves, without times."""
    result = json.loads((run / "result.json").read_text())
    return [timeless(load(run / f"{name}.safetensors")) for name in ("last", "best")] + [timeless(result), history(run)]


def stands(run: Path) -> tuple[int, int]:
    progress = load(run / "last.safetensors")["progress"]
    return progress["epoch"], progress["batch"]


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.long
def test_a_killed_run_goes_on_as_if_nothing_had_happened(killed: Path, tmp_path: Path, name: str) -> None:
    assert stands(killed / name) == RUNS[name].stands
    half_written = [file for file in files(killed / name) if file.startswith(".")]
    assert len(half_written) == ("write" in RUNS[name].kill)
    assert main(["train", "--resume", str(killed / name), "--quiet"]) == 0
    assert main(command(name, tmp_path / "whole")) == 0
    assert same(everything(killed / name), everything(tmp_path / "whole"))


@pytest.mark.long
def test_a_process_killed_from_outside(tmp_path: Path) -> None:
    """At whatever moment it happens to be in."""
    arguments = command("sltt-k", tmp_path / "run")
    arguments[arguments.index("--epochs") + 1] = "25"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the order of sums depends on the number of threads
    process = subprocess.Popen(
        [sys.executable, "-m", "spikewright", *arguments], cwd=Path(__file__).parents[2], env=environment
    )
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "last.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert main([*arguments[:-1], str(tmp_path / "whole")]) == 0
    assert same(everything(tmp_path / "run"), everything(tmp_path / "whole"))
