"""The leaky integrate-and-fire neuron."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron, check_number
from spikewright.surrogate import Sigmoid, Surrogate


class LIF(Neuron):
    r"""Leaky integrate-and-fire: `u = leak * v + I`, with `leak = 1 - 1/tau`.  The input is not divided by tau.

    The dynamics are written in `spikewright.kernels.lif`.  How the convention maps to other libraries:

    ==================  =====================================================================
    SpikingJelly        `LIFNode(tau, decay_input=False, v_reset=None)` (soft) or `v_reset=0.` (hard)
    snnTorch            `Leaky(beta=1 - 1/tau, reset_delay=False)`, up to `>` instead of `>=`
    sinabs              `LIF(tau_mem)` with `exp(-1/tau_mem) = 1 - 1/tau`, `norm_input=False`
    Norse               `tau_mem_inv * dt = 1/tau`, input scaled by `tau`, up to `>` instead of `>=`
    NIR                 `LIF(tau=tau*dt, r=tau)`; NIR itself has a hard reset only
    ==================  =====================================================================

    Args:
        tau: Time constant in steps, at least 1: a number, or one value per channel (axis 1 of `[batch, channel, ...]`;
            a tensor of more axes must broadcast to `[batch, *feature]`).
        threshold: See `Neuron`.
        reset: See `Neuron`.
        detach_reset: See `Neuron`.
        surrogate: See `Neuron`.
        learn_tau: Train the time constant (a parametric LIF): the parameter is the logit of the leak, so `tau` is
            only its start value, and must be above 1.
        inplace: See `Neuron`.
        rest: See `Neuron`.
        gain: See `Neuron`.
        amplitude: See `Neuron`.
        noise: See `Neuron`.

    Raises:
        ConfigError: `tau` is below 1, or is exactly 1 while `learn_tau` is set.
    """

    def __init__(
        self,
        tau: float | Sequence[float] | Tensor = 2.0,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = True,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        learn_tau: bool = False,
        inplace: bool = False,
        rest: float = 0.0,
        gain: float = 1.0,
        amplitude: float = 1.0,
        noise: float = 0.0,
    ) -> None:
        check_number(type(self).__name__, "tau", tau)
        super().__init__(
            threshold=threshold,
            rest=rest,
            gain=gain,
            amplitude=amplitude,
            reset=reset,
            detach_reset=detach_reset,
            surrogate=surrogate,
            inplace=inplace,
            noise=noise,
        )
        value = torch.as_tensor(tau, dtype=torch.get_default_dtype())
        if not bool((value >= 1).all()) or (learn_tau and bool((value == 1).any())):
            bound = "above 1 to be learned" if learn_tau else "at least 1"
            raise ConfigError(
                f"LIF(tau={tau}): the time constant is in steps and leak = 1 - 1/tau, so tau must be {bound}. "
                "A leak (snnTorch's beta) is given as tau = 1 / (1 - beta)."
            )
        self._leak: float | None = None
        if learn_tau:
            self.leak_logit = nn.Parameter(torch.log(value - 1))  # sigmoid(log(tau - 1)) = 1 - 1/tau
        elif value.dim() == 0:
            self._leak = 1 - 1 / float(tau)  # type: ignore[arg-type]
        else:
            self.register_buffer("leaks", 1 - 1 / value)

    @property
    def leak(self) -> float | Tensor:
        if self._leak is not None:
            return self._leak
        if "leak_logit" in self._parameters:
            return torch.sigmoid(self.leak_logit)
        return self.get_buffer("leaks")

    @property
    def tau(self) -> float | Tensor:
        """The time constant in steps, 1 / (1 - leak)."""
        return 1 / (1 - self.leak)

    def extra_repr(self) -> str:
        tau = torch.as_tensor(self.tau)
        shown = f"{tau.item():.4g}" if tau.numel() == 1 else f"<{tau.numel()} values>"
        learned = ", learn_tau=True" if "leak_logit" in self._parameters else ""
        return f"tau={shown}{learned}, {super().extra_repr()}"
