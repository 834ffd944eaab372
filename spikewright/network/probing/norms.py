"""What batch norm does in a probe: to every sample the same, so that none depends on those beside it."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from spikewright.dataflow import Bend, Dataflow
from spikewright.layers.batch_norm import default_norm
from spikewright.network.wiring import NORM, module_name


def alike(site: str, module: Any, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise by running statistics, or by none where there are none."""
    if module.running_mean is not None:
        return default_norm(site, module, forward, x)
    rows, weight, bias = x.flatten(0, 1), module.weight, module.bias
    mean, variance = rows.new_zeros(rows.shape[1]), rows.new_ones(rows.shape[1])
    return F.batch_norm(rows, mean, variance, weight, bias, False, 0.0, module.eps).unflatten(0, x.shape[:2])


def followed(
    flow: Dataflow,
    moving: Collection[str],
    site: str,
    module: Any,
    forward: Callable[[Tensor], Tensor],
    x: Tensor,
) -> Tensor:
    """Do the same, and tell the dataflow where a run normalises by the statistics of a batch.

    Args:
        flow: Watches the operations.
        moving: Names of the norms that do.
        site: Of the norm, and so on: see `spikewright.layers.batch_norm.Normalise`.
        module: The norm.
        forward: Its forward for one batch.
        x: `[time, batch, channel, ...]`.
    """
    y = alike(site, module, forward, x)
    if module_name(site) in moving:
        flow.bend(y, Bend(NORM, site))
    return y
