"""The leaky integrate-and-fire neuron."""

from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from spikewright._util.arguments import is_numeric, shown
from spikewright.errors import ConfigError
from spikewright.kernels.layout import precision
from spikewright.kernels.lif import Reset
from spikewright.neurons._base import Neuron
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
            a tensor of more axes must broadcast to `[batch, *feature]`).  One value in a sequence or tensor is a
            number.  Constants keep their value when the module is cast (`half()`): they stay in double precision, and
            are used in that of the scan, at least float32.
        threshold: See `Neuron`.
        reset: See `Neuron`.
        detach_reset: See `Neuron`.
        surrogate: See `Neuron`.
        learn_tau: Train the time constant (a parametric LIF): the parameter is the logit of the leak, so `tau` is
            only its start value, and must be above 1.  It is cast as every parameter is, and may be parametrized as
            `leak_logit` (`torch.nn.utils.parametrize`).
        inplace: See `Neuron`.
        rest: See `Neuron`.
        gain: See `Neuron`.
        amplitude: See `Neuron`.
        noise: See `Neuron`.

    Raises:
        ConfigError: `tau` is not a finite number or several, is below 1, or is exactly 1 while `learn_tau` is set; or
            see `Neuron`.
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
        value = _time_constants(tau, learn_tau)
        self._leak: float | None = None
        self._learned = learn_tau
        if learn_tau:
            # sigmoid(log(tau - 1)) = 1 - 1/tau
            self.leak_logit = nn.Parameter(torch.log(value - 1).to(torch.get_default_dtype()))
        elif value.numel() == 1:
            self._leak = 1 - 1 / value.item()
        else:
            self.register_buffer("leaks", 1 - 1 / value)

    @property
    def leak(self) -> float | Tensor:
        if self._leak is not None:
            return self._leak
        if self._learned:  # the parameter, or what a parametrization or a hook computes in its place
            logit = self.leak_logit
            return torch.sigmoid(logit.to(precision(logit)))
        return cast(Tensor, self.leaks)

    @property
    def tau(self) -> float | Tensor:
        """The time constant in steps, 1 / (1 - leak)."""
        return 1 / (1 - self.leak)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take constants along to another device, but not to another precision."""
        exact = self._buffers.get("leaks")
        super()._apply(fn, recurse)
        if exact is not None:
            self._buffers["leaks"] = exact.to(self.get_buffer("leaks").device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Take constants from a checkpoint, unless they are the present ones in a lower precision."""
        key, exact = f"{prefix}leaks", self._buffers.get("leaks")
        stored = state_dict.get(key)
        if isinstance(stored, Tensor) and exact is not None and stored.shape == exact.shape:
            if torch.equal(stored, exact.to(stored)):
                state_dict[key] = exact
        elif isinstance(stored, Tensor) and self._leak is not None and stored.numel() == 1:  # one in a tensor, once
            del state_dict[key]
            if stored.item() != torch.tensor(self._leak, dtype=torch.float64).to(stored.dtype).item():
                self._leak = stored.item()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        tau = torch.as_tensor(self.tau)
        shown = f"{tau.item():.4g}" if tau.numel() == 1 else f"<{tau.numel()} values>"
        learned = ", learn_tau=True" if self._learned else ""
        return f"tau={shown}{learned}, {super().extra_repr()}"


def _time_constants(tau: object, learned: bool) -> Tensor:
    """Return time constants in double precision, having checked them."""
    if isinstance(tau, bool):
        raise ConfigError(
            f"LIF(tau={tau}): tau is a number, and {tau} would stand for {float(tau)}. A library that calls "
            f"act_layer({tau}) means inplace, which neurons ignore: give it act_layer=lambda *_: LIF(). In "
            "LIF(tau=2.0): the time constant is a number of steps, or one number per channel."
        )
    asked = f"LIF(tau={shown(tau)})"
    if isinstance(tau, Tensor) and tau.requires_grad:
        raise ConfigError(
            f"{asked} was given a tensor that asks for a gradient, but tau is where time constants start, and none "
            "would get there. Use LIF(tau=tau.detach(), learn_tau=True), which trains the logit of the leak; for a "
            "constant, tau.detach()."
        )
    try:
        value = torch.as_tensor(tau if is_numeric(tau) else (), dtype=torch.float64)
    except (TypeError, ValueError):  # rows of several lengths
        value = torch.empty(0)
    if not value.numel():
        raise ConfigError(
            f"{asked}: the time constant is a number of steps, or one number per channel. Give a float such as "
            "tau=2.0, or a list of as many as there are channels."
        )
    if not bool((value >= 1).all()) or (learned and bool((value == 1).any())):
        bound = "above 1 to be learned" if learned else "at least 1"
        raise ConfigError(
            f"LIF(tau={tau}): the time constant is in steps and leak = 1 - 1/tau, so tau must be {bound}. "
            "A leak (snnTorch's beta) is given as tau = 1 / (1 - beta)."
        )
    if not bool(value.isfinite().all()):
        raise ConfigError(
            f"LIF(tau={tau}): the time constant is a finite number of steps. Neurons that retain everything are IF()."
        )
    return value.detach().clone()
