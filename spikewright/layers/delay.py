"""Synaptic delays: spikes arrive some steps after they were sent, with a trained delay per channel."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.arguments import is_numeric, shown
from spikewright._util.ranges import MOST, check_count, check_flag
from spikewright.errors import ConfigError, OutsideRun, ShapeError
from spikewright.kernels.delays import (
    DelayGrad,
    check_delay_grad,
    delayed,
    kernel_slope,
    shares,
    slope,
    straight_through,
)
from spikewright.kernels.layout import precision
from spikewright.temporal import SiteState, Temporal


class SynapticDelay(Temporal):
    r"""Delays its input by a trained whole number of steps per channel; zeros before the start of a sequence.

    With a parameter :math:`\theta` per channel (`delay_logit`) and the longest delay :math:`\beta` (`max_delay`),

    .. math::
        y[t] = x[t - d], \qquad d = \mathrm{round}(\delta), \qquad \delta = \beta\,\sigma(\theta),

    rounded half to even.  In the backward pass the rounding is passed over, and the delay gets
    :math:`\partial L/\partial\delta = \sum_t \frac{\partial L}{\partial y[t]}\, q[t-d]` with a slope :math:`q` that
    `delay_grad` chooses:

    | `delay_grad` | slope q[t], with :math:`\rho = e^{-1/\tau}` |
    |---|---|
    | "finite_difference" | `x[t-1] - x[t]`, the effect of one more step of delay; for every neuron |
    | "exact" | `rho x[t-1] - (1 - 1/tau) x[t]`, the derivative of the response of the `AlphaLIF` behind the delay |
    | "reference" | that of the authors' code, which filters with the response of the neuron a second time |

    Rules that cut credit between steps let errors through where `d` is 0 only; the delays themselves still learn from
    the error of each step.  Input and output are `[time, batch, *feature]`; the state in a run is `past`,
    `[batch, max_delay + 1, *feature]`, and with "reference" the slopes and two sums.

    Args:
        shape: Number of channels, from 1 to 10**6 (axis 1 of `[batch, channel, ...]`), or a shape that broadcasts to
            `[*feature]`.
        max_delay: Longest delay :math:`\beta`, in steps.  Whole number from 1 to 10**6.  Default: 4.
        init: Delays to start with, in steps, in (0, max_delay).  One number, or a tensor or sequence of
            the shape of the delays, `[*shape]`.  Default: None,
            which draws `delay_logit` from the standard normal distribution.
        delay_grad: Slope of the delays: "finite_difference", "exact" or "reference".  Default: "finite_difference".
        tau: Time constant of the `AlphaLIF` behind the delay, in steps.  Finite number > 0, required for "exact" and
            "reference" and refused otherwise.  Default: None.
        rounding: False shares each spike between the two steps around a delay that is not whole, so that the gradient
            is that of the forward pass.  Default: True.

    Raises:
        ConfigError: An argument is out of range; `tau` is missing with "exact" or "reference", or given with another
            choice; or "reference" is combined with `rounding=False`.
        ShapeError: In a run, the input does not fit `shape`.

    Reference:
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.SynapticDelay(1, init=2.0), sw.IF()))
    >>> net.run(torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1))[0].flatten().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(
        self,
        shape: int | Sequence[int],
        max_delay: int = 4,
        init: float | Sequence[float] | Tensor | None = None,
        delay_grad: DelayGrad = "finite_difference",
        tau: float | None = None,
        rounding: bool = True,
    ) -> None:
        super().__init__()
        size: tuple[Any, ...] = tuple(shape) if isinstance(shape, list | tuple) else (shape,)
        for channels in size:
            check_count("SynapticDelay", "shape", channels, "there is at least one delay along an axis", most=MOST)
        check_count("SynapticDelay", "max_delay", max_delay, "the longest delay is at least one step", most=MOST)
        check_flag("SynapticDelay", rounding=rounding)
        check_delay_grad("SynapticDelay", delay_grad, tau)
        if delay_grad == "reference" and not rounding:
            raise ConfigError(
                "SynapticDelay(delay_grad='reference', rounding=False): a delay that is not rounded has a derivative "
                "of its own, and needs no other. Use 'exact' or 'finite_difference'."
            )
        self.by_channel = not isinstance(shape, list | tuple)
        self.max_delay = max_delay
        self.delay_grad: DelayGrad = delay_grad
        self.tau, self.rounding = tau, rounding
        self.delay_logit = nn.Parameter(torch.randn(*size) if init is None else _logit(init, tuple(size), max_delay))

    @property
    def delay(self) -> Tensor:
        """The delays before rounding, in steps, in float32 at least.  Tensor of the shape of `delay_logit`."""
        return self.max_delay * torch.sigmoid(self.delay_logit.to(precision(self.delay_logit)))

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        delay = self._fitting(x)
        past = self._earlier(state["past"], x) if state else x.new_zeros(self.max_delay + 1, *x.shape[1:])
        signal = torch.cat([past, x])
        after = {"past": _kept(signal, len(x))}
        if self.delay_grad == "reference":
            sums = (state["first"], state["second"]) if state else None
            slopes, (after["first"], after["second"]) = kernel_slope(x, self._tau, sums)
            earlier = self._earlier(state["slopes"], x) if state else torch.zeros_like(past)
            slopes = torch.cat([earlier, slopes])
            after["slopes"] = _kept(slopes, len(x))
        else:
            slopes = slope(signal, self._tau)
        if not through_time:
            after = {name: value.detach() for name, value in after.items()}
        if not self.rounding:
            return self._shared(signal, delay, x, through_time), after
        whole = delay.detach().round()
        arrived = _arrived(signal, whole, x, through_time)
        if delay.requires_grad and torch.is_grad_enabled():
            arrived = straight_through(arrived, delay, delayed(slopes, whole, len(x)))
        return arrived, after

    def _shared(self, signal: Tensor, delay: Tensor, x: Tensor, through_time: bool) -> Tensor:
        whole = delay.detach().floor()
        early, late = (share.to(x.dtype) for share in shares((delay - whole).to(precision(x)), self._tau))
        return early * _arrived(signal, whole, x, through_time) + late * _arrived(signal, whole + 1, x, through_time)

    def _earlier(self, kept: Tensor, x: Tensor) -> Tensor:
        """Return steps kept batch first, with time first and in the dtype of `x`, which may have changed since."""
        if kept.shape[1:2] != (self.max_delay + 1,):
            raise ShapeError(
                f"SynapticDelay goes on from the last {self.max_delay + 1} steps, but the state that was given has "
                f"{list(kept.shape)} ([batch, step, *feature]). It seems to be that of a layer with another max_delay: "
                "start anew with state=None."
            )
        return kept.transpose(0, 1).to(x.dtype)

    @property
    def _tau(self) -> float:
        return math.inf if self.tau is None else self.tau

    def _fitting(self, x: Tensor) -> Tensor:
        """Return the delays in a shape that broadcasts to `[*feature]` of `[time, batch, *feature]`."""
        delay, feature = self.delay, x.shape[2:]
        if self.by_channel:
            if not feature or feature[0] != len(delay):
                raise ShapeError(
                    f"SynapticDelay has delays for {len(delay)} channels, but its input has the shape "
                    f"{list(x.shape[1:])} ([batch, channel, ...]). Give the number of channels there."
                )
            return delay.view(-1, *[1] * (len(feature) - 1))
        if delay.dim() > len(feature) or any(d not in (1, f) for d, f in zip(delay.shape[::-1], feature[::-1])):
            raise ShapeError(
                f"SynapticDelay has delays of shape {list(delay.shape)}, which do not broadcast to its input, "
                f"{list(x.shape[1:])} ([batch, *feature]). Give the shape of the features, with 1 where they share."
            )
        return delay

    def forward(self, x: Tensor) -> Tensor:
        """Raise `OutsideRun`: a delay runs inside `Network.run`, which holds the steps before."""
        raise OutsideRun(
            f"SynapticDelay was called outside a run, with a tensor of shape {list(x.shape)}. It needs the steps "
            "before this one, which a run holds. Wrap the module, net = spikewright.Network(module), and call "
            "output, state = net.run(x) with x of shape [time, batch, *feature]."
        )

    def extra_repr(self) -> str:
        tau = "" if self.tau is None else f", tau={self.tau:g}"
        shape = len(self.delay_logit) if self.by_channel else tuple(self.delay_logit.shape)
        rounding = "" if self.rounding else ", rounding=False"
        return f"{shape}, max_delay={self.max_delay}, delay_grad={self.delay_grad!r}{tau}{rounding}"


def _arrived(signal: Tensor, delay: Tensor, x: Tensor, through_time: bool) -> Tensor:
    """Return a signal after a whole delay; without `through_time` errors pass where the delay is 0 only."""
    if through_time:
        return delayed(signal, delay, len(x))
    return torch.where(delay == 0, x, delayed(signal.detach(), delay, len(x)))


def _kept(signal: Tensor, steps: int) -> Tensor:
    """Return a copy of all but the first steps of a signal, batch first, for the state."""
    return signal[steps:].transpose(0, 1).clone()


def _logit(init: float | Sequence[float] | Tensor, size: tuple[int, ...], longest: int) -> Tensor:
    """Return the parameter of given start delays."""
    try:
        value = torch.as_tensor(init if is_numeric(init) else (), dtype=torch.get_default_dtype())
    except (TypeError, ValueError, OverflowError, RuntimeError):  # rows of several lengths, numbers beyond floats
        value = torch.empty(0)
    if value.dim() and value.shape != size:
        raise ConfigError(f"SynapticDelay(init=<{list(value.shape)}>): give one number, or one for every delay.")
    if not bool(((value > 0) & (value < longest)).all()):
        raise ConfigError(
            f"SynapticDelay(init={shown(init)}, max_delay={longest}): delays are max_delay * sigmoid(parameter), so "
            f"they start strictly between 0 and {longest}. A delay is rounded: 0.25 arrives at once, {longest - 0.25} "
            f"after {longest} steps."
        )
    return torch.logit(value / longest).expand(size).clone()
