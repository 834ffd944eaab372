"""Arguments of `fit`: metrics, optimizer and schedule."""

import inspect
import re
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from spikewright._util.arguments import shown
from spikewright._util.returned import described
from spikewright.errors import ConfigError
from spikewright.network import Network
from spikewright.train.progress import Sum
from spikewright.train.schedule import Schedule, Steady
from spikewright.train.source import first_tensor

Metric = Callable[[Any, Any], Any]
"""Function of outputs `[time, batch, *feature]` and targets that returns their mean over samples."""


def summed(name: str, metric: Metric) -> Callable[[Any, Any], Sum]:
    """Return a mean over samples as a sum, with their number."""

    def of_batch(output: Any, y: Any) -> Sum:
        found, samples = metric(output, y), first_tensor(output).shape[1]
        if not isinstance(found, Real) and not (isinstance(found, Tensor) and found.numel() == 1):
            raise ConfigError(
                f"The metric '{name}' returned {described(found)}, but a metric is the mean over samples, one number. "
                "Let it return values.mean()."
            )
        return float(found) * samples, samples

    return of_batch


def check_metrics(metrics: object) -> None:
    """Raise `ConfigError` unless metrics are functions by name, or `None`."""
    by_name = cast("Mapping[Any, Any]", metrics) if isinstance(metrics, Mapping) else {}
    if metrics is not None and (not isinstance(metrics, Mapping) or not all(map(callable, by_name.values()))):
        raise ConfigError(f"fit(metrics={shown(metrics)}): give functions (output, y) by name, such as {{'mae': mae}}.")
    for name in by_name:
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or name == "loss":
            raise ConfigError(
                f"fit(metrics=...) has a metric named {shown(name)}, but names are columns of log.csv, where 'loss' is "
                "that of the criterion. Give another name, of letters, digits and underscores."
            )


def check_optimizer(optimizer: torch.optim.Optimizer, net: Network) -> None:
    """Raise `ConfigError` unless an optimizer trains something of a network, without a closure."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in net.parameters() if p.requires_grad):
        raise ConfigError(
            f"fit was given {type(optimizer).__name__} without any parameter of the network that is trained, so that "
            "nothing would be learned. Make it for this network: torch.optim.SGD(net.parameters(), lr=0.1), after "
            "copies, conversions and changes of requires_grad."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"fit was given {type(optimizer).__name__}, which evaluates the loss several times per step by a closure; "
            "a rule fills gradients once per batch. Use an optimizer without, such as torch.optim.AdamW."
        )


def schedule_of(scheduler: Any, every: str, optimizer: torch.optim.Optimizer) -> Schedule:
    """Return a scheduler of torch with the times at which it steps.

    Raises:
        ConfigError: It is one of another optimizer, or cannot step at these times.
    """
    if every not in ("epoch", "batch"):
        raise ConfigError(f"fit(schedule_every={shown(every)}) is unknown. Give 'epoch' or 'batch'.")
    if scheduler is None:
        return Schedule(Steady(), per_batch=False)
    if isinstance(scheduler, ReduceLROnPlateau) and every == "batch":
        raise ConfigError(
            "fit(schedule=ReduceLROnPlateau, schedule_every='batch') was asked for, but it looks at the loss of "
            "an epoch. Give schedule_every='epoch'."
        )
    if getattr(scheduler, "optimizer", None) is not optimizer:
        raise ConfigError(
            f"fit(schedule={type(scheduler).__name__}) sets the learning rates of another optimizer. Make it with the "
            "optimizer that is given to fit."
        )
    return Schedule(scheduler, per_batch=every == "batch")
