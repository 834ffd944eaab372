"""What the tests of training share: runs so small that each takes a moment."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikewright.train import Config, Experiment, build, configure, train_experiment
from spikewright.train.checkpoint import load

Tree = dict[str, Any]

TINY: Mapping[str, Any] = {
    "data": {"name": "synthetic", "size": 40},
    "model": {"name": "mlp", "hidden": [16]},
    "train": {"steps": 3, "epochs": 2, "batch_size": 10},
}
"""Four batches an epoch of ten images each."""

SHORT = ["--data", "synthetic", "--set", "data.size=40", "--model", "mlp", "--set", "model.hidden=[16]"]
SHORT += ["--steps", "3", "--epochs", "2", "--batch-size", "10"]
"""The same as flags of the command line."""


def tiny(*overrides: str, **sections: Any) -> Config:
    return configure(TINY, overrides, **sections)


def experiment(*overrides: str, **sections: Any) -> Experiment:
    return build(tiny(*overrides, **sections))


def trained(out: Path, *overrides: str, **sections: Any) -> Tree:
    """Train a tiny network and return the result."""
    return train_experiment(experiment(*overrides, **sections), out)


def weights(run: Path, name: str = "last") -> dict[str, Tensor]:
    return load(run / f"{name}.safetensors")["parts"]["model"]


def same(left: Any, right: Any) -> bool:
    """Whether two trees are equal in kind and value, tensors to the last bit and NaN to NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and _bits(left) == _bits(right)
    if isinstance(left, Mapping):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right)


def _bits(tensor: Tensor) -> bytes:
    return bytes(tensor.reshape(-1).contiguous().view(torch.uint8).tolist())


def timeless(value: Any) -> Any:
    """A tree without its measured times and their digest, the one thing that two equal runs do not share."""
    if isinstance(value, Mapping):
        return {key: timeless(entry) for key, entry in value.items() if key not in ("seconds", "digest")}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


def history(run: Path) -> list[dict[str, str]]:
    """The rows of `log.csv`, without times."""
    with (run / "log.csv").open(newline="") as file:
        return [timeless(row) for row in csv.DictReader(file)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
