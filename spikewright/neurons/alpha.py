"""The current-based leaky integrate-and-fire neuron with an alpha-shaped response."""

import math

from spikewright._util.arguments import check_number, shown
from spikewright._util.ranges import as_float
from spikewright.errors import ConfigError
from spikewright.kernels.lif import Reset
from spikewright.neurons.current_based import CUBALIF
from spikewright.surrogate import Sigmoid, Surrogate


def alpha_constants(tau: float) -> tuple[float, float]:
    """Return the share that current and potential of an `AlphaLIF` keep per step, and its factor of the input."""
    return math.exp(-1 / tau), math.e / tau


class AlphaLIF(CUBALIF):
    r"""Current-based leaky integrate-and-fire neuron with an alpha-shaped response.

    A leaky synaptic current c feeds a leaky potential u, both of the retained fraction :math:`\rho = e^{-1/\tau}`:

    .. math::
        c[t] &= \rho\,c[t-1] + \tfrac{e}{\tau} I[t], \qquad u[t] = \rho\,v[t-1] + c[t], \qquad
        s[t] = \Theta(u[t] - V_{th}), \\
        v[t] &= u[t] - V_{th} s[t] \ \text{(soft reset)} \quad\text{or}\quad v[t] = u[t] (1 - s[t])
        \ \text{(hard reset)}.

    The reset leaves the current c as it is.  One unit of input raises the potential k steps later by
    :math:`\epsilon(k) = \frac{e}{\tau}(k+1)\rho^k`, which peaks near :math:`k = \tau - 1`.  Input and output are
    `[time, batch, *feature]`; the state in a run is `current` and `membrane`, `[batch, *feature]`, in float32 at least.

    The neuron declares :math:`\rho` as the decay of current and potential, so that the traces of `OTTT` have its
    response, up to the factor; and no rate map, so DSR, IDE and SPIDE refuse it.

    Args:
        tau: Time constant of current and potential in steps.  Finite number > 0.  Default: 4.0.
        threshold: Potential at which a neuron fires, at equality too.  Finite number > 0.  Default: 2.0.
        reset: What a spike does to the potential: "subtract" takes the threshold off it (soft), "zero" sets it to 0
            (hard).  Default: "zero".
        detach_reset: True keeps the gradient out of the reset.  Only rules that carry errors through time (BPTT) depend
            on it.  Default: False, as in the released code.
        surrogate: Slope used in the backward pass in place of the derivative of a spike.  Instance of
            `spikewright.surrogate.Surrogate`.  Default: `Sigmoid(4.0)`.
        inplace: Accepted and ignored, so that `act_layer=AlphaLIF` works in libraries that build activations with it.
            Default: False.

    Raises:
        ConfigError: `tau` or `threshold` is not one finite positive number, `reset` is unknown, or `surrogate` is not a
            `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    Reference:
        Xiao et al., Temporal Spiking Neural Networks with Synaptic Delay for Graph Reasoning, ICML 2024,
        arXiv 2405.16851.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(sw.AlphaLIF(tau=4.0, threshold=2.0)))
    >>> output, state = net.run(torch.full((5, 1, 1), 0.8))
    >>> output.flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 1.0]
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
        check_number("AlphaLIF", "tau", tau, finite=False)
        check_number("AlphaLIF", "threshold", threshold)
        if not 0 < as_float(tau) < math.inf:
            raise ConfigError(
                f"AlphaLIF(tau={shown(tau)}): current and potential retain exp(-1/tau) per step, with tau a "
                "positive number of steps."
            )
        rho, gain = alpha_constants(float(tau))
        super().__init__(
            threshold=threshold,
            reset=reset,
            detach_reset=detach_reset,
            surrogate=surrogate,
            inplace=inplace,
        )
        self._tau, self.gain = float(tau), gain
        self._leak = self._current_leak = rho

    @property
    def tau(self) -> float:
        """Time constant of current and potential in steps."""
        return self._tau

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, threshold={self.threshold:g}, reset={self.reset!r}, surrogate={self.surrogate}"
