"""Batch normalisation in a run: statistics of each step, or of all steps together.

Plain `nn.BatchNorm*` inside a run means *per step*: in training each step is normalised by its own batch and updates
the running statistics once, as the SLTT networks are trained.  The joint form (the "threshold-dependent" norm of Zheng
et al., AAAI 2021, arXiv 2011.05280, without its scale) pools time and batch, so it needs the whole sequence at once.
In evaluation all of them are the same affine map.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.layers.calls import NormCall
from spikewright.temporal import SiteState, Temporal

Norm = _BatchNorm | NormCall
"""A batch norm module, or the operation in the forward of one."""
Normalise = Callable[[str, Norm, Callable[[Tensor], Tensor], Tensor], Tensor]
"""What batch norm does to a chunk: (site, norm, its forward for one batch, x [time, batch, channel, ...]) -> y."""


def default_norm(site: str, module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise a chunk as the module's own name says; a plain module by the statistics of each step."""
    if isinstance(module, Temporal):
        return module.scan(x, {}, True)[0]
    if isinstance(module, NormCall) and module.whole_sequence:
        return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return scan_per_step(module, forward, x)


def scan_per_step(module: Norm, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise every step of `[time, batch, channel, ...]` by the statistics of its own batch.

    Args:
        module: The norm, whose mode decides between batch and running statistics.
        forward: Its forward for one batch.
        x: `[time, batch, channel, ...]`.
    """
    if not module.training and module.track_running_stats:
        return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return torch.stack([forward(step) for step in x])


class _PerStep(_BatchNorm, Temporal):
    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return scan_per_step(self, super().forward, x), state


class _Joint(_BatchNorm, Temporal):
    whole_sequence: ClassVar[bool] = True

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2]), state


class PerStepBatchNorm1d(_PerStep, nn.BatchNorm1d):
    """`nn.BatchNorm1d` with the statistics of each time step: what the plain module means inside a run, by name."""


class PerStepBatchNorm2d(_PerStep, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of each time step: what the plain module means inside a run, by name."""


class JointBatchNorm1d(_Joint, nn.BatchNorm1d):
    """`nn.BatchNorm1d` with statistics over time and batch; rules that work step by step refuse it."""


class JointBatchNorm2d(_Joint, nn.BatchNorm2d):
    """`nn.BatchNorm2d` with statistics over time and batch; rules that work step by step refuse it."""


PER_STEP, JOINT = _PerStep, _Joint
