"""Batch normalisation in a run: statistics of each step, or of all steps together.

Plain `nn.BatchNorm*` inside a run normalises *per step*: in training each step is normalised by its own batch and
updates the running statistics once, as the SLTT networks are trained.  The joint form (the "threshold-dependent" norm
of Zheng et al., AAAI 2021, arXiv 2011.05280, without its scale) takes statistics over time and batch, so it needs the
whole sequence at once.  In evaluation all of them are the same affine map.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.arguments import shown
from spikewright._util.devices import usable_device
from spikewright._util.ranges import MOST, check_counts, check_flag, check_numbers
from spikewright.errors import ConfigError
from spikewright.layers.batch_statistics import Norm, normalise_in_sync, sync_share, uses_batch
from spikewright.layers.calls import NormCall
from spikewright.temporal import SiteState, Temporal

Normalise = Callable[[str, Norm, Callable[[Tensor], Tensor], Tensor], Tensor]
"""Function that normalises a chunk: (site, norm, forward for one batch, x [time, batch, channel, ...]) -> y."""


def default_norm(site: str, module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise a chunk as the module is defined; a plain module by the statistics of each step."""
    if isinstance(module, Temporal):
        return module.scan(x, {}, True)[0]
    if isinstance(module, NormCall) and module.whole_sequence:
        return scan_whole(module, forward, x)
    return scan_per_step(module, forward, x)


def scan_whole(module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise `[time, batch, channel, ...]` by the statistics of all steps together.

    Args:
        module: The norm, whose mode decides between batch and running statistics.
        forward: Forward of the norm for one batch.
        x: Input.  Tensor `[time, batch, channel, ...]`.
    """
    if uses_batch(module) and sync_share() is not None:
        return normalise_in_sync(module, x, by_step=False)
    return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def scan_per_step(module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise every step of `[time, batch, channel, ...]` by the statistics of its own batch.

    Args:
        module: The norm, whose mode decides between batch and running statistics.
        forward: Forward of the norm for one batch.
        x: Input.  Tensor `[time, batch, channel, ...]`.
    """
    if not module.training and module.track_running_stats:
        return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    if uses_batch(module) and sync_share() is not None:
        return normalise_in_sync(module, x, by_step=True)
    return torch.stack([forward(step) for step in x])


class _Checked(_BatchNorm, Temporal):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        name = type(self).__name__
        check_counts(name, most=MOST, num_features=num_features)
        check_numbers(name, "(0, inf)", eps=eps)
        check_numbers(name, "[0, 1]", optional=True, momentum=momentum)
        check_flag(name, affine=affine, track_running_stats=track_running_stats, bias=bias)
        if device is not None:
            usable_device(f"{name}(device={shown(device)})", device)
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ConfigError(
                f"{name}(dtype={shown(dtype)}): its parameters are floating-point numbers. Give a dtype such as "
                "torch.float32."
            )
        without: dict[str, Any] = {} if bias else {"bias": False}  # an argument that not every torch has
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **without)


class _PerStep(_Checked):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return scan_per_step(self, super().forward, x), state


class _Joint(_Checked):
    whole_sequence: ClassVar[bool] = True

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return scan_whole(self, super().forward, x), state


class PerStepBatchNorm1d(_PerStep, nn.BatchNorm1d):
    r"""Batch norm over `[batch, channel]` with the statistics of each time step.

    .. math::
        y[t] = \gamma\,\frac{x[t] - \mathrm{mean}_{b}(x[t])}{\sqrt{\mathrm{var}_{b}(x[t]) + \epsilon}} + \beta.

    Plain `nn.BatchNorm1d` does the same inside a run; this class says so by name.  In training each step updates the
    running statistics once; in evaluation they are used in place of the batch.

    Args:
        num_features: Number of channels, the size of axis 1 of `[batch, channel, ...]`.  Whole number from 1 to
            10**6.
        eps: Number > 0 added to the variance.  Default: 1e-5.
        momentum: Weight of a new batch in the running statistics.  Number in [0, 1], or None for a plain mean of all
            batches.  Default: 0.1.
        affine: True trains :math:`\gamma` and :math:`\beta` per channel.  Default: True.
        track_running_stats: True keeps running statistics for evaluation; False uses those of the batch there too.
            Default: True.
        device: Device of the parameters.  Default: None, that of torch.
        dtype: Dtype of the parameters.  Default: None, that of torch.
        bias: False leaves :math:`\beta` out.  Default: True.

    Raises:
        ConfigError: An argument is out of its range.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.PerStepBatchNorm1d(2), sw.IF()))
    >>> net.run(torch.rand(4, 3, 2))[0].shape
    torch.Size([4, 3, 2])
    """


class PerStepBatchNorm2d(_PerStep, nn.BatchNorm2d):
    r"""Batch norm over `[batch, channel, height, width]` with the statistics of each time step.

    .. math::
        y[t] = \gamma\,\frac{x[t] - \mathrm{mean}_{bhw}(x[t])}{\sqrt{\mathrm{var}_{bhw}(x[t]) + \epsilon}} + \beta.

    Plain `nn.BatchNorm2d` does the same inside a run; this class says so by name.  In training each step updates the
    running statistics once; in evaluation they are used in place of the batch.

    Args:
        num_features: Number of channels, the size of axis 1 of `[batch, channel, ...]`.  Whole number from 1 to
            10**6.
        eps: Number > 0 added to the variance.  Default: 1e-5.
        momentum: Weight of a new batch in the running statistics.  Number in [0, 1], or None for a plain mean of all
            batches.  Default: 0.1.
        affine: True trains :math:`\gamma` and :math:`\beta` per channel.  Default: True.
        track_running_stats: True keeps running statistics for evaluation; False uses those of the batch there too.
            Default: True.
        device: Device of the parameters.  Default: None, that of torch.
        dtype: Dtype of the parameters.  Default: None, that of torch.
        bias: False leaves :math:`\beta` out.  Default: True.

    Raises:
        ConfigError: An argument is out of its range.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.PerStepBatchNorm2d(2), sw.IF()))
    >>> net.run(torch.rand(4, 3, 2, 5, 5))[0].shape
    torch.Size([4, 3, 2, 5, 5])
    """


class JointBatchNorm1d(_Joint, nn.BatchNorm1d):
    r"""Batch norm over `[batch, channel]` with statistics over all time steps and the batch.

    .. math::
        y[t] = \gamma\,\frac{x[t] - \mathrm{mean}_{tb}(x)}{\sqrt{\mathrm{var}_{tb}(x) + \epsilon}} + \beta.

    In training it needs the whole sequence in one chunk, so rules that work step by step refuse
    it; in evaluation it uses running statistics like `nn.BatchNorm1d`.

    Args:
        num_features: Number of channels, the size of axis 1 of `[batch, channel, ...]`.  Whole number from 1 to
            10**6.
        eps: Number > 0 added to the variance.  Default: 1e-5.
        momentum: Weight of a new batch in the running statistics.  Number in [0, 1], or None for a plain mean of all
            batches.  Default: 0.1.
        affine: True trains :math:`\gamma` and :math:`\beta` per channel.  Default: True.
        track_running_stats: True keeps running statistics for evaluation; False uses those of the batch there too.
            Default: True.
        device: Device of the parameters.  Default: None, that of torch.
        dtype: Dtype of the parameters.  Default: None, that of torch.
        bias: False leaves :math:`\beta` out.  Default: True.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Zheng et al., Going Deeper With Directly-Trained Larger Spiking Neural Networks, AAAI 2021, arXiv 2011.05280,
        without its scale.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.JointBatchNorm1d(2), sw.IF()))
    >>> net.run(torch.rand(4, 3, 2))[0].shape
    torch.Size([4, 3, 2])
    """


class JointBatchNorm2d(_Joint, nn.BatchNorm2d):
    r"""Batch norm over `[batch, channel, height, width]` with statistics over all time steps and the batch.

    .. math::
        y[t] = \gamma\,\frac{x[t] - \mathrm{mean}_{tbhw}(x)}{\sqrt{\mathrm{var}_{tbhw}(x) + \epsilon}} + \beta.

    In training it needs the whole sequence in one chunk, so rules that work step by step refuse
    it; in evaluation it uses running statistics like `nn.BatchNorm2d`.

    Args:
        num_features: Number of channels, the size of axis 1 of `[batch, channel, ...]`.  Whole number from 1 to
            10**6.
        eps: Number > 0 added to the variance.  Default: 1e-5.
        momentum: Weight of a new batch in the running statistics.  Number in [0, 1], or None for a plain mean of all
            batches.  Default: 0.1.
        affine: True trains :math:`\gamma` and :math:`\beta` per channel.  Default: True.
        track_running_stats: True keeps running statistics for evaluation; False uses those of the batch there too.
            Default: True.
        device: Device of the parameters.  Default: None, that of torch.
        dtype: Dtype of the parameters.  Default: None, that of torch.
        bias: False leaves :math:`\beta` out.  Default: True.

    Raises:
        ConfigError: An argument is out of its range.

    Reference:
        Zheng et al., Going Deeper With Directly-Trained Larger Spiking Neural Networks, AAAI 2021, arXiv 2011.05280,
        without its scale.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.layers.JointBatchNorm2d(2), sw.IF()))
    >>> net.run(torch.rand(4, 3, 2, 5, 5))[0].shape
    torch.Size([4, 3, 2, 5, 5])
    """


PER_STEP, JOINT = _PerStep, _Joint
