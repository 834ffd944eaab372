r"""Batch norm in rules that learn from rates: three meanings, because statistics of what differ.

======== ======================================== =====================================================================
name     in the simulation                        in the gradient
======== ======================================== =====================================================================
rate     running statistics                       statistics of the mean currents of the batch, differentiated; they
                                                  update the running ones
running  running statistics                       the same, as constants; the mean currents update them
joint    statistics over all steps and samples    the same, differentiated
======== ======================================== =====================================================================

The first two let a simulation go step by step, also through feedback (Xiao et al., NeurIPS 2021, arXiv 2109.14247, use
the first); they are rules of their own, not approximations of the third, which is how DSR was trained (Meng et al.,
CVPR 2022, arXiv 2205.00459).  In evaluation mode all of them are the affine map of the running statistics.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.layers.batch_norm import Norm
from spikewright.time_variance import Again, Simulate, stacked, variance_in_time

Forward = Callable[[Tensor], Tensor]
NormName = Literal["rate", "running", "joint"]


class RateNorm(ABC):
    """Batch norm over one sequence; every `x` is `[time, batch, channel, ...]`.

    Args:
        stacked_norms: See `Wiring`.
    """

    couples: ClassVar[bool]
    """Whether the gradient of a sample depends on the others."""
    whole_sequence: ClassVar[bool] = False
    """Whether it needs all steps at once."""

    def __init__(self, stacked_norms: frozenset[str]) -> None:
        self.stacked_norms = stacked_norms

    @abstractmethod
    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise a chunk of the simulation."""

    def begin(self, again: Simulate) -> None:  # noqa: B027  (nothing by default)
        """Be told how to run the sequence once more, before anything is evaluated at rates."""

    def emitted(self, site: str, rate: Tensor) -> None:  # noqa: B027  (nothing by default)
        """Be told of a neuron layer that has been evaluated at rates, `[batch, *feature]`, with a graph."""

    @abstractmethod
    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        """Normalise mean currents, `[1, batch, channel, ...]`, with a graph."""

    def finish(self) -> None:  # noqa: B027  (nothing by default)
        """Add to the gradients what is still missing, after the backward pass at rates."""


class OfRates(RateNorm):
    """Simulated with running statistics, differentiated with those of the mean currents."""

    couples: ClassVar[bool] = True

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        return _affine(module, x)

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Running(OfRates):
    """Simulated and differentiated with running statistics, which the mean currents then update."""

    couples: ClassVar[bool] = False

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        y = _affine(module, x)
        if module.training:
            with torch.no_grad():
                forward(x.flatten(0, 1))  # for what it does to the running statistics
        return y


class Joint(RateNorm):
    r"""Statistics over all steps and samples.

    Their variance is that of the mean currents plus the mean :math:`c` of the variances in time.  The second part is
    recorded here; its gradient at the weights below needs the steps once more, see `Again`.  Where another norm has
    scaled the current, with no neurons in between, :math:`c` depends on the rates below too, see `stacked`.

    Exact without leak.
    """

    couples: ClassVar[bool] = True
    whole_sequence: ClassVar[bool] = True

    def __init__(self, stacked_norms: frozenset[str]) -> None:
        super().__init__(stacked_norms)
        self._in_time: dict[str, Tensor] = {}  # `[channel]`, leaves of the graph at rates
        self._rates: dict[str, Tensor] = {}

    def begin(self, again: Simulate) -> None:
        self._again = again

    def emitted(self, site: str, rate: Tensor) -> None:
        self._rates[site] = rate

    def simulate(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        if module.training:
            self._in_time[site] = variance_in_time(x).requires_grad_()
        return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def at_rates(self, site: str, module: Norm, forward: Forward, x: Tensor) -> Tensor:
        if not module.training:
            return forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        axes = [0, 1, *range(3, x.dim())]
        shape = (1, 1, -1, *[1] * (x.dim() - 3))
        in_time = self._in_time[site]
        if site in self.stacked_norms and self._rates:
            in_time = stacked(in_time, site, self._again, self._rates)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = (x - mean) * torch.rsqrt(variance + in_time.view(shape) + module.eps)
        y = y if module.weight is None else y * module.weight.view(shape)
        return y if module.bias is None else y + module.bias.view(shape)

    def finish(self) -> None:
        if grads := {site: c.grad for site, c in self._in_time.items() if c.grad is not None}:
            self._again(Again(grads), None)


def _affine(module: Norm, x: Tensor) -> Tensor:
    """Normalise by the running statistics as they are now, whatever becomes of them before the backward pass."""
    assert module.running_mean is not None and module.running_var is not None  # a rule refuses norms without
    mean, variance = module.running_mean.clone(), module.running_var.clone()
    y = F.batch_norm(x.flatten(0, 1), mean, variance, module.weight, module.bias, False, 0.0, module.eps)
    return y.unflatten(0, x.shape[:2])


NORMS: dict[NormName, type[RateNorm]] = {"rate": OfRates, "running": Running, "joint": Joint}
