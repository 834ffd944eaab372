"""The current-based leaky integrate-and-fire neuron with an alpha-shaped response."""

import math

from torch import Tensor

from spikewright._util.arguments import check_number
from spikewright.errors import ConfigError
from spikewright.kernels.alpha import alpha_scan
from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron
from spikewright.neurons._dynamics import UNKNOWN, Dynamics
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.temporal import SiteState


class AlphaLIF(Neuron):
    r"""A leaky synaptic current into a leaky potential, both with :math:`\rho = e^{-1/\tau}`.

    .. math::
        c[t] = \rho\,c[t-1] + \tfrac{e}{\tau} I[t], \qquad u[t] = \rho\,v[t-1] + c[t], \qquad
        s[t] = \Theta(u[t] - V_{th}),

    and v is u after the reset, which leaves the current c as it is.  One unit of input raises the potential k steps
    later by :math:`\epsilon(k) = \frac{e}{\tau}(k+1)\rho^k`, which peaks near :math:`k = \tau - 1`.

    It has no single decay, so rules with one trace per input (OTTT) have to be told one, and no rate map, so rules that
    learn from rates refuse it.

    Args:
        tau: Time constant in steps, positive.
        threshold: See `Neuron`.
        reset: See `Neuron`.
        detach_reset: See `Neuron`; the authors differentiate the reset too.
        surrogate: See `Neuron`.
        inplace: See `Neuron`.

    Raises:
        ConfigError: `tau` is not one positive number, or see `Neuron`.

    Reference:
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851.
    """

    def __init__(
        self,
        tau: float = 4.0,
        threshold: float = 2.0,
        reset: Reset = "zero",
        detach_reset: bool = False,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        inplace: bool = False,
    ) -> None:
        super().__init__(
            threshold=threshold, reset=reset, detach_reset=detach_reset, surrogate=surrogate, inplace=inplace
        )
        check_number("AlphaLIF", "tau", tau, finite=False)
        if not 0 < tau < math.inf:
            raise ConfigError(
                f"AlphaLIF(tau={tau}): current and potential retain exp(-1/tau) per step, with tau a positive number "
                "of steps."
            )
        self.tau = float(tau)

    @property
    def dynamics(self) -> Dynamics:
        ours = type(self).scan is AlphaLIF.scan
        if not ours:
            return UNKNOWN
        return Dynamics(
            linear=True,
            binary=type(self.surrogate).__call__ is Surrogate.__call__,
            soft_reset=self.reset == "subtract",
            detached_reset=self.detach_reset,
        )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        spikes, current, membrane = alpha_scan(
            x,
            state.get("current"),
            state.get("membrane"),
            tau=self.tau,
            threshold=self.threshold,
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=self.surrogate,
            through_time=through_time,
        )
        return spikes, {"current": current, "membrane": membrane}

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, {super().extra_repr()}"
