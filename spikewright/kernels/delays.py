r"""Delayed spikes on plain tensors: what arrives after `d` steps, and what a delay learns from.

A synapse with delay :math:`\delta` transmits :math:`m[t] = s[t-d]` with :math:`d = \mathrm{round}(\delta)`.  Backward,
the rounding is passed over, and the delay sees the error of what arrived times a slope q of the spikes:

.. math::
    \frac{\partial L}{\partial \delta} = \sum_t \frac{\partial L}{\partial m[t]}\, q[t-d].

`slope` and `kernel_slope` are the choices of q.  A sequence is `[time, *shape]`; what came before it is zero.

Reference:
    Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024, arXiv 2405.16851.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.ranges import as_float, check_choice
from spikewright.errors import ConfigError

DelayGrad = Literal["finite_difference", "exact", "reference"]


def check_delay_grad(owner: str, delay_grad: DelayGrad, tau: float | None) -> None:
    """Raise `ConfigError` unless the choice is known and comes with the time constant that it needs, and no other.

    Args:
        owner: Who asks, for the message.
        delay_grad: Of which slope.
        tau: Time constant of the neurons that the delayed spikes reach, in steps.
    """
    check_choice(owner, "delay_grad", delay_grad, get_args(DelayGrad))
    asked = f"{owner}(delay_grad={delay_grad!r}, tau={shown(tau)})"
    if delay_grad == "finite_difference" and tau is not None:
        raise ConfigError(
            f"{asked}: a finite difference compares two delays whatever neurons follow, so tau says nothing. Leave it "
            "out, or use delay_grad='exact'."
        )
    if delay_grad != "finite_difference" and not 0 < as_float(tau) < math.inf:
        raise ConfigError(
            f"{asked}: it differentiates the alpha-shaped response of the neurons that the spikes reach, whose time "
            "constant tau has to be a positive number of steps. Give the tau of the AlphaLIF behind the delay; behind "
            "neurons without such a response (LIF, IF), which jump when a spike arrives, only "
            "delay_grad='finite_difference' is defined."
        )


def delayed(signal: Tensor, delay: Tensor, steps: int) -> Tensor:
    """Return `signal[t - delay]` at the last steps of a signal; differentiable in the signal.

    Args:
        signal: The past and the present, `[past + steps, *shape]`.
        delay: Whole numbers from 0 to `past`; must broadcast to `[*shape]`.
        steps: How many of the last steps are wanted.
    """
    now = torch.arange(len(signal) - steps, len(signal), device=signal.device)
    index = now.view(-1, *[1] * (signal.dim() - 1)) - delay.long()
    return signal.gather(0, index.expand(steps, *signal.shape[1:]))


def straight_through(arrived: Tensor, delay: Tensor, slope: Tensor) -> Tensor:
    """Return `arrived`, from which the error goes on to a delay: each entry times `slope`.

    Args:
        arrived: `[time, *shape]`.
        delay: Before rounding; must broadcast to `[*shape]`.
        slope: q at what arrived, `[time, *shape]`.
    """
    return arrived + (delay - delay.detach()).to(arrived.dtype) * slope.detach()


def slope(signal: Tensor, tau: float = math.inf) -> Tensor:
    r"""Return :math:`q[t] = \rho\,s[t-1] - (1 - 1/\tau)\,s[t]`, with :math:`\rho = e^{-1/\tau}`, of all but step 0.

    It is the derivative of `shares` where the delay is whole, and so that of the response of an alpha-shaped neuron.
    Without a time constant it is the finite difference `s[t-1] - s[t]`, what one more step of delay would change.

    Args:
        signal: `[1 + time, *shape]`.
        tau: Time constant in steps.
    """
    here, before = slope_shares(tau)
    return before * signal[:-1] + here * signal[1:]


def slope_shares(tau: float = math.inf) -> tuple[float, float]:
    """Return what a spike, and one a step earlier, count in `slope`."""
    return 1 / tau - 1, math.exp(-1 / tau)


def shares(rest: Tensor, tau: float = math.inf) -> tuple[Tensor, Tensor]:
    r"""Return which shares of a spike arrive after d and after d + 1 steps, for a delay of :math:`d + \eta`.

    They are :math:`(1-\eta)\rho^{-\eta}` and :math:`\eta\rho^{1-\eta}`.  The response of an alpha-shaped neuron to the
    two is, at every step, its response :math:`\epsilon(x) = \frac{e}{\tau}(x+1)\rho^x` to one spike at the time
    between them.  Without a time constant they are :math:`1-\eta` and :math:`\eta`.

    Args:
        rest: :math:`\eta`, from 0 to 1.
        tau: Time constant in steps.
    """
    return (1 - rest) * torch.exp(rest / tau), rest * torch.exp((rest - 1) / tau)


@torch.no_grad()
def kernel_slope(
    signal: Tensor, tau: float, sums: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    r"""Return :math:`q[t] = -\sum_{k \le t} \kappa(t-k)\,s[k]` with :math:`\kappa(i) = \frac{e}{\tau}(1 -
    \frac{i+1}{\tau})\rho^i`, and the sums that the next steps start from.

    The slope of the authors' code.  Taken at what arrives at alpha-shaped neurons it filters twice, since the error
    there has been through their response already.

    Args:
        signal: `[time, *shape]`.
        tau: Time constant in steps.
        sums: What the steps before returned: :math:`\sum \rho^{t-k} s[k]` and :math:`\sum (t-k)\rho^{t-k} s[k]`,
            `[*shape]`, at least in float32.
    """
    wide = signal.to(torch.promote_types(signal.dtype, torch.float32))
    first, second = (torch.zeros_like(wide[0]),) * 2 if sums is None else (value.to(wide.dtype) for value in sums)
    rho, slopes = math.exp(-1 / tau), []
    for step in wide:
        second = rho * (second + first)
        first = rho * first + step
        slopes.append(second / tau - (1 - 1 / tau) * first)
    return (math.e / tau * torch.stack(slopes)).to(signal.dtype), (first, second)
