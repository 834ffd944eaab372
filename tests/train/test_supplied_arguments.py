"""Arguments that the program supplies are no settings: no record of a run holds them, and none can be set."""

import json
from pathlib import Path

import pytest

from spikewright.cli.__main__ import main

SOURCE = """
import torch
from torch import nn
import spikewright as sw
from spikewright.data import load
from spikewright.train.schedule import constant

class Net(nn.Module):
    def __init__(self, width=8, neuron=None, shape=None, classes=None):
        super().__init__()
        make = neuron or sw.LIF
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), make(), nn.Linear(width, classes or 4))
    def forward(self, x):
        return self.body(x)

class Bare(Net):
    def __init__(self, width=8):
        super().__init__(width)

def optimizer(weights=None, lr=0.1):
    return torch.optim.SGD(weights, lr)

def schedule(of=None, batches=0, epochs=None):
    return constant(of, batches, epochs)

def images(size=20, limit_train=3, validation=0.4):
    return load("synthetic", size=size)

def loaders(count=8, validation=0.4, batch_first=True):
    x, y = torch.rand(5, count, 8, 8), torch.arange(count) % 4
    return [(x, y)], [(x, y)]
"""


@pytest.mark.parametrize(
    ("model", "data", "more"),
    [
        ("{}:Net", "{}:images", []),
        ("{}:Net", "{}:loaders", []),
        ("{}:Net", "{}:loaders", ["model.classes=7"]),
        ("{}:Net", "synthetic", ["optimizer.name={}:optimizer"]),
        ("{}:Bare", "synthetic", ["schedule.name={}:schedule"]),
        ("mlp", "{}:images", ["optimizer.name={}:optimizer", "schedule.name={}:schedule"]),
    ],
)
def test_a_run_goes_on_from_its_record(tmp_path: Path, model: str, data: str, more: list[str]) -> None:
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(SOURCE)
    changes = [part for change in more for part in ("--set", change.format(file))]
    named = ["--model", model.format(file), "--data", data.format(file)]
    assert main(["train", *named, *changes, "--epochs", "1", "--quiet", "--out", str(run)]) == 0
    config = json.loads((run / "config.json").read_text())
    given = {change.partition("=")[0].removeprefix("model.") for change in more}
    assert not config["model"].keys() & {"neuron", "shape", "classes"} - given
    assert not config["optimizer"].keys() & {"weights", "params"}
    assert not config["schedule"].keys() & {"of", "batches", "epochs"}
    assert main(["train", "--resume", str(run), "--epochs", "2", "--quiet"]) == 0
    assert main(["evaluate", str(run), "--quiet"]) == 0


@pytest.mark.parametrize("change", ["model.classes=3", "optimizer.weights=3", "schedule.batches=3"])
def test_none_can_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    section, _, name = change.partition("=")[0].partition(".")
    names = [f"optimizer.name={file}:optimizer", f"schedule.name={file}:schedule", change]
    changes = [part for text in names for part in ("--set", text)]
    command = ["train", "--model", f"{file}:Net", "--data", "synthetic", *changes, "--quiet"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    assert f"{section}.{name} is not an argument of" in capsys.readouterr().err
