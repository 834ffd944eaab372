"""Messages say what was found in words that fit it, and what to do."""

import errno
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright._util import files
from spikewright.cli.__main__ import main
from spikewright.errors import CheckpointError, ConfigError
from spikewright.train import checkpoint
from spikewright.train.arguments import check_type
from spikewright.train.feed import Loaders

NET = sw.Network(nn.Sequential(nn.Linear(20, 3), sw.LIF()))
SOURCE = """
from torch import nn
import spikewright as sw
from spikewright.data import load

class Net(nn.Module):
    def __init__(self, width: int = 4, lazy=False, norm=True):
        super().__init__()
        first = nn.LazyLinear(width) if lazy else nn.Linear(64, width)
        layers = nn.BatchNorm1d(width) if norm else nn.Identity(), sw.LIF(), nn.Linear(width, 4)
        self.body = nn.Sequential(nn.Flatten(), first, *layers)
    def forward(self, x):
        return self.body(x)

def images(n="abc"):
    return load("synthetic", size=20)
"""


def told(capsys: pytest.CaptureFixture[str], tmp_path: Path, *changes: str) -> tuple[int, str]:
    (tmp_path / "mine.py").write_text(SOURCE)
    mine = ["--model", f"{tmp_path}/mine.py:Net", "--data", f"{tmp_path}/mine.py:images"]
    given = [part for change in changes for part in ("--set", change)]
    status = main(["train", *mine, *given, "--epochs", "1", "--quiet", "--out", str(tmp_path / "run")])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("fit", {"train": islice([1], 1)}, "fit was given an itertools.islice as train loader"),
        ("fit", {"train": None}, "fit was given no train loader"),
        ("fit", {"train": [1], "validation": 3}, "fit was given an int as validation loader"),
        ("mine.py:make", "abc", "mine.py:make returned a str as train loader"),
    ],
)
def test_loaders(name: str, made: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Loaders.of(name, made)


@pytest.mark.parametrize("shape", [(5, -1, 20), (5, 2.5, 20), [0, 1, 20], (5, 10**9, 20), (True, 1, 20), 7, "abc"])
def test_a_shape_for_a_plan_is_shown(shape: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        sw.plan(NET, sw.rules.BPTT(), shape)
    assert f"plan was given {shape!r} for the shape" in str(caught.value)


@pytest.mark.parametrize("hint", [Any, object, "none", tuple[Any, ...]])
def test_what_may_be_anything_takes_anything(hint: Any) -> None:
    value = (1, "a") if hint == tuple[Any, ...] else "abc"
    check_type("data.n", "data", value, {} if hint == "none" else {"n": hint})


def test_an_argument_without_a_type_takes_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, tmp_path, "data.n=abcd") == (0, "")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["n"] == "abcd"


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("more", [[], ["model.norm=false"], ["model.lazy=true"]])
def test_a_layer_without_channels_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    status, err = told(capsys, tmp_path, "model.width=0", *more)
    assert status == 2 and "model.width = 0 makes 'body." in err and "batch_first" not in err


def test_a_checkpoint_without_room_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device\. What was there .* continue with --resume"):
        checkpoint.save(tmp_path / "last.safetensors", {"x": torch.zeros(2)})
    assert not list(tmp_path.iterdir())
