"""Batch norm in a probe: the same map for every sample, so that none depends on those beside it."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from spikewright.dataflow import Bend, Dataflow
from spikewright.layers.batch_norm import default_norm
from spikewright.network.wiring import NORM, module_name


def alike(site: str, module: Any, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise by running statistics, or by mean 0 and variance 1 without them."""
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
    """Normalise as `alike` does, and mark places where a run uses the statistics of a batch as not linear.

    Args:
        flow: Dataflow of the operations.
        moving: Names of norms that use the statistics of a batch.
        site: Name of the norm's call.
        module: The norm.
        forward: Forward of the norm for one batch.
        x: Input, `[time, batch, channel, ...]`.
    """
    y = alike(site, module, forward, x)
    if module_name(site) in moving:
        flow.bend(y, Bend(NORM, site))
    return y
