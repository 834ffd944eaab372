"""Batch norm in rules that learn from rates: three definitions, by the quantity whose statistics are taken.

| name    | in the simulation                     | in the gradient                                      |
|---------|---------------------------------------|------------------------------------------------------|
| rate    | running statistics                    | statistics of the mean currents, differentiated      |
| running | running statistics                    | the same, as constants                               |
| joint   | statistics over all steps and samples | the same, differentiated                             |

With "rate" and "running" the mean currents update the running statistics.  With the first two a simulation runs step by
step, also through feedback (Xiao et al., NeurIPS 2021, arXiv 2109.14247, use the first).  They are definitions of their
own, not approximations of the third, which is how DSR was trained (Meng et al., CVPR 2022, arXiv 2205.00459).  In
evaluation mode all of them are the affine map of the running statistics.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.layers.batch_norm import Norm, scan_whole
from spikewright.layers.batch_statistics import batch_variance
from spikewright.rules.rates.stacked_norms import (
    StackedNorms,
    but_channels,
    joint,
    scaled,
    variance_in_time,
    variance_of,
)

Forward = Callable[[Tensor], Tensor]
NormName = Literal["rate", "running", "joint"]


class RateNorm(ABC):
    """Batch norm over one sequence; every `x` is `[time, batch, channel, ...]`."""

    couples: ClassVar[bool]
    """Whether the gradient of a sample depends on the others."""
    whole_sequence: ClassVar[bool] = False
    """Whether it needs all steps at once."""

    @abstractmethod
    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise a chunk of the simulation."""

    @abstractmethod
    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise mean currents, `[1, batch, channel, ...]`, with a graph."""


class OfRates(RateNorm):
    """Simulated with running statistics, differentiated with those of the mean currents."""

    couples: ClassVar[bool] = True

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        return _affine(module, x)

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        return scan_whole(module, forward, x)


class Running(OfRates):
    """Simulated and differentiated with running statistics, which the mean currents then update."""

    couples: ClassVar[bool] = False

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        y = _affine(module, x)
        if module.training:
            with torch.no_grad():
                scan_whole(module, forward, x)  # for what it does to the running statistics
        return y


class Joint(RateNorm):
    """Statistics over all steps and samples.

    Their variance is that of the mean currents plus the mean c of the variances in time.  The second part is recorded
    here.  At rates it is a leaf, or a function of the variances of joint norms in front, if there are some without
    neurons in between (`stacked_norms`).  Its gradient at the weights between the last neurons and the norm needs a
    second simulation (`SecondPass`).  The result is exact for neurons without leak.
    """

    couples: ClassVar[bool] = True
    whole_sequence: ClassVar[bool] = True

    def __init__(self) -> None:
        self.in_time: dict[str, Tensor] = {}
        """Mean variance in time by name of the norm, `[channel]`, leaves of the graph at rates."""
        self.stacked = StackedNorms()

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        if module.training:
            self.in_time[site] = variance_in_time(x).requires_grad_()
        return scan_whole(module, forward, x)

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        if not module.training:
            return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        shape = (1, 1, -1, *[1] * (x.dim() - 3))
        variance, mean = batch_variance(x, but_channels(x))
        variance = variance + self.stacked.enter(site, x, self.in_time[site])
        y = (x - mean.view(shape)) * torch.rsqrt(variance + module.eps).view(shape)
        y = y if module.weight is None else y * module.weight.view(shape)
        y = y if module.bias is None else y + module.bias.view(shape)
        self.stacked.leave(site, variance, y)
        return y


class SecondPass:
    """The joint norm in a second simulation, with a graph from one layer of neurons to the next and no further.

    Each norm differentiates the part of its variance that is in time as soon as it is known.  The gradient of the loss
    by that part was found at the rates, and so was its share in the variances of other norms, which are constants here.
    The graph stays for other readers of the same current, and for norms behind this one.

    Args:
        grads: That gradient, `[channel]`, by name of the norm.
        in_front: By name of a norm, the names of the norms in front of it, with no neurons in between.
    """

    def __init__(self, grads: Mapping[str, Tensor], in_front: Mapping[str, Sequence[str]]) -> None:
        self._grads, self._scaling = grads, {site for sites in in_front.values() for site in sites}

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise the whole sequence, and differentiate the variance in time."""
        if site in self._grads and x.requires_grad:
            torch.autograd.backward([variance_in_time(x)], [self._grads[site]], retain_graph=True)
        if not module.training:
            return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return scaled(module, x, variance_of(x)) if site in self._scaling else joint(module, x)


def _affine(module: Norm, x: Tensor) -> Tensor:
    """Normalise by the present running statistics, which may change before the backward pass."""
    assert module.running_mean is not None and module.running_var is not None  # a rule refuses norms without
    mean, variance = module.running_mean.clone(), module.running_var.clone()
    y = F.batch_norm(x.flatten(0, 1), mean, variance, module.weight, module.bias, False, 0.0, module.eps)
    return y.unflatten(0, x.shape[:2])


NORMS: dict[NormName, type[RateNorm]] = {"rate": OfRates, "running": Running, "joint": Joint}
