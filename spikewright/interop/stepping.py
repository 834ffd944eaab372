"""One batch in the training loop of another library: every update of a rule is a step of the optimizer."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.rules import Rule, Update
from spikewright.train.distributed import sum_gradients
from spikewright.train.group import batch_share
from spikewright.train.source import first_tensor


def stepped(
    net: Network,
    rule: Rule,
    batch: tuple[Input, Input],
    loss: Loss,
    optimizer: Any,
    *,
    index: int,
    clip: Callable[[], object] | None,
    batch_first: bool,
) -> Iterator[Update]:
    """Yield the updates of a rule for a batch, after the optimizer has stepped, in one process or several.

    Args:
        net: The network.
        rule: The rule.
        batch: Inputs and targets that this process has.
        loss: The loss.
        optimizer: What has `step()` and `zero_grad()`.
        index: Number of the batch since the start of training, at least 0.
        clip: Called before every step, when gradients are those of all processes.
        batch_first: True if inputs are `[batch, time, *feature]`.
    """
    x, y = batch
    share = batch_share(samples_of(x, batch_first), index)
    parameters = [p for part in (net, rule) for p in part.parameters() if p.requires_grad]
    optimizer.zero_grad()
    for update in rule.updates(net, x, y, loss, backward=_in_full, share=share, batch_first=batch_first):
        if share is not None:
            sum_gradients(parameters, share)
        if clip is not None:
            clip()
        optimizer.step()
        optimizer.zero_grad()
        yield update


def samples_of(x: Input, batch_first: bool) -> int:
    """Return the number of samples of an input, or of the first of several."""
    return first_tensor(x).shape[0 if batch_first else 1]


def _in_full(value: Tensor) -> None:
    """Differentiate outside of autocast."""
    with torch.autocast(value.device.type, enabled=False):
        value.backward()
