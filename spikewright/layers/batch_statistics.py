"""Batch norm with the statistics of a batch that several processes share.

Sums over samples are added up over all processes, in the forward and in the backward pass, so that outputs, gradients
and running statistics are those of one process with the whole batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.share import Share, divided_share, whole_batch
from spikewright.layers.calls import NormCall

Norm = _BatchNorm | NormCall
"""A batch norm module, or the operation inside the forward of one."""


def sync_share() -> Share | None:
    """Return the share of a batch whose statistics are to be taken over all processes, or `None`."""
    share = divided_share()
    return share if share is not None and share.sync_batch_norm else None


def batch_mean(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Return the mean over some axes, over the samples of all processes if they are to share statistics.

    Args:
        x: Tensor `[time, batch, channel, ...]`.
        dims: The axes, that of samples among them.
    """
    share = sync_share()
    if share is None:
        return x.mean(list(dims))
    total = x.sum(list(dims))
    return share.sum(total) / (x.numel() // total.numel() // x.shape[1] * share.rows(x.shape[1]))


def batch_variance(x: Tensor, dims: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the variance, not corrected for the number of values, and the mean in the same way."""
    if sync_share() is None:
        return torch.var_mean(x, list(dims), correction=0)
    mean = batch_mean(x, dims)
    return batch_mean((x - _beside(mean, x, dims)).square(), dims), mean


def uses_batch(module: Norm) -> bool:
    """Return True if a norm normalises by the statistics of its batch."""
    if isinstance(module, NormCall):
        return module.training
    return module.training or (module.running_mean is None and module.running_var is None)


def normalise_in_sync(module: Norm, x: Tensor, by_step: bool, update: bool = True) -> Tensor:
    """Normalise by the batch of all processes.

    Args:
        module: The norm, which `uses_batch`.
        x: Input, `[time, batch, channel, ...]`.
        by_step: If True, each step by its own statistics; otherwise all by those of all steps.
        update: If True, update the running statistics.  Default: True.
    """
    dims = [1, *range(3, x.dim())] if by_step else [0, 1, *range(3, x.dim())]
    count = x[0, 0, 0].numel() * whole_batch(x.shape[1]) * (1 if by_step else len(x))
    kind, x = x.dtype, x.float() if x.dtype.itemsize < 4 else x
    variance, mean = batch_variance(x, dims)
    y = (x - _beside(mean, x, dims)) * _beside(torch.rsqrt(variance + module.eps), x, dims)
    y = y if module.weight is None else y * _beside(module.weight, x, [0, *dims])
    y = y if module.bias is None else y + _beside(module.bias, x, [0, *dims])
    if update:
        _update(module, mean.detach(), variance.detach() * (count / (count - 1)))
    return y.to(kind)


def _beside(statistic: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    """Return what was computed over some axes with these axes again."""
    return statistic.view([1 if dim in dims else size for dim, size in enumerate(x.shape)])


@torch.no_grad()
def _update(module: Norm, means: Tensor, variances: Tensor) -> None:
    """Update the running statistics by those of every step, `[time, channel]`, or of all steps, `[channel]`."""
    steps = list(zip(means.view(-1, means.shape[-1]), variances.view(-1, means.shape[-1])))
    for (mean, variance), momentum in zip(steps, _momenta(module, len(steps))):
        if module.running_mean is not None and module.running_var is not None:
            module.running_mean.lerp_(mean.to(module.running_mean), momentum)
            module.running_var.lerp_(variance.to(module.running_var), momentum)


def _momenta(module: Norm, steps: int) -> Iterator[float]:
    """Yield the weight of each step in the running statistics, and count the step; nothing if there are none."""
    if isinstance(module, NormCall):
        yield from (module.next_momentum() for _ in range(steps))
    elif module.training and module.track_running_stats:
        count = module.num_batches_tracked
        for _ in range(steps):
            if count is not None:
                count.add_(1)
            yield 1.0 / float(count) if module.momentum is None and count is not None else module.momentum or 0.0
