"""Record of a run of `fit`: settings that a resumed run must share."""

import inspect
import re
from collections.abc import Iterable, Sized
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from spikewright._util.digest import digest
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.train.arguments import is_plain
from spikewright.train.config import Tree
from spikewright.train.settings import TrainSettings
from spikewright.train.source import tensors


def record(
    net: Network, rule: Rule, loss: Loss, optimizer: torch.optim.Optimizer, schedule: tuple[Any, str],
    settings: TrainSettings, loader: Iterable[Any], batch_first: bool,
) -> Tree:  # fmt: skip
    """Return the record of a run, as nested dictionaries.

    Args:
        net: Network.
        rule: Learning rule.
        loss: Loss.
        optimizer: Optimizer.
        schedule: Scheduler or `None`, and "epoch" or "batch".
        settings: Settings of the loop.
        loader: Training batches.
        batch_first: True if inputs are `[batch, time, ...]`.
    """
    scheduler, every = schedule
    criterion = loss.criterion
    constants = digest(tensors(criterion.state_dict())) if isinstance(criterion, nn.Module) else None
    layers = {name: _shown(m) for name, m in net.module.named_modules() if not any(m.children())}
    sizes = {"batches": _length(loader), "samples": _length(getattr(loader, "dataset", None))}
    unread = "steps", "batch_size", "workers", "weights", "device"
    rates = [{k: v for k, v in group.items() if k != "params" and is_plain(v)} for group in optimizer.param_groups]
    shapes = {name: list(p.shape) for name, p in net.named_parameters()}
    return {
        "rule": {"name": _shown(rule)},
        "model": {"name": type(net.module).__name__, "parameters": shapes},
        "layers": layers,
        "data": {"name": "loader", "batch_first": batch_first, **sizes},
        "loss": {
            "name": _shown(loss),
            "criterion": _shown(criterion),
            "options": _options(criterion),
            "digest": constants,
            **_options(loss),
        },
        "optimizer": {"name": type(optimizer).__name__, "groups": rates},
        "schedule": {"name": None if scheduler is None else type(scheduler).__name__, "every": every}
        | _options(scheduler),
        "train": {key: value for key, value in asdict(settings).items() if key not in unread},
    }


def _shown(value: object) -> str:
    """Return a value as text, without addresses in memory; of a layer with a trained number, only the class."""
    if isinstance(value, nn.Module) and any(p.numel() == 1 for p in value.parameters(recurse=False)):
        return type(value).__name__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _options(value: object) -> dict[str, Any]:
    """Return those constructor arguments that an object keeps under their names, if they are plain values."""
    try:
        names = inspect.signature(type(value)).parameters.keys() - {"last_epoch", "optimizer"}
    except ValueError:  # of a class that is not written in Python, such as functools.partial
        return {}
    found = {name: getattr(value, name) for name in sorted(names) if hasattr(value, name)}
    return {name: option for name, option in found.items() if is_plain(option)}


def _length(value: object) -> int | None:
    try:
        return len(value) if isinstance(value, Sized) else None
    except TypeError:  # of an iterable data set
        return None
