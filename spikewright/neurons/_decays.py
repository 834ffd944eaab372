"""Neurons whose decays per step are given as time constants, and may be trained."""

import math
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikewright._util.arguments import is_numeric, shown
from spikewright.errors import ConfigError
from spikewright.kernels.equations import Equations
from spikewright.kernels.layout import precision
from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import Constants, check_late, constant


class Decaying(Neuron):
    """Base of neurons with time constants; a decay `""` is that of the potential."""

    has_current: bool = False
    current_gain: float | Tensor

    def set_decay(self, kind: str, argument: str, tau: Constants, learned: bool) -> None:
        r"""Set a decay :math:`1 - 1/\tau`.

        Args:
            kind: What decays: "" for the potential, "current_" for the synaptic current.
            argument: Name of the argument, for messages.
            tau: The time constant in steps.
            learned: True trains the logit of the decay.
        """
        value = time_constants(type(self).__name__, argument, tau, learned)
        number: float | None = None
        if learned:  # sigmoid(log(tau - 1)) = 1 - 1/tau
            setattr(self, f"{kind}leak_logit", nn.Parameter(torch.log(value - 1).to(torch.get_default_dtype())))
        elif value.numel() == 1:
            number = 1 - 1 / value.item()
        else:
            self.hold(f"{kind}leaks", 1 - 1 / value)
        setattr(self, f"_{kind}leak", number)
        if not kind and self.reset == "late":
            check_late(type(self).__name__, float((1 - 1 / value).min()))

    def decay_of(self, kind: str) -> float | Tensor:
        """Return a decay: a number, or a tensor `[channel]`; computed anew from what is trained."""
        number: float | None = getattr(self, f"_{kind}leak")
        if number is not None:
            return number
        if self.learns(kind):  # the parameter, or the value that a parametrization or a hook computes
            logit = cast(Tensor, getattr(self, f"{kind}leak_logit"))
            return torch.sigmoid(logit.to(precision(logit)))
        return cast(Tensor, getattr(self, f"{kind}leaks"))

    def set_current(self, tau_syn: Constants, current_gain: Constants, learned: bool = False) -> None:
        """Set the synaptic current in front of the potential.

        Args:
            tau_syn: Its time constant in steps.
            current_gain: Factor of the current at the potential.
            learned: True trains the logit of its decay.
        """
        self.has_current = True
        self.hold("current_gain", constant(type(self).__name__, "current_gain", current_gain))
        self.set_decay("current_", "tau_syn", tau_syn, learned)

    def set_optional_current(self, tau_syn: Constants | None, current_gain: Constants) -> None:
        """Set the synaptic current of a neuron that may be without one.

        Args:
            tau_syn: Its time constant in steps; `None` for no such current.
            current_gain: Factor of the current at the potential.
        """
        self.set_current(1.0 if tau_syn is None else tau_syn, current_gain)
        self.has_current = tau_syn is not None

    def with_current(self, equations: Equations) -> Equations:
        """Return equations with the synaptic current, if there is one.

        Args:
            equations: Equations without it.
        """
        if not self.has_current:
            return equations
        return replace(equations, has_current=True, current_leak=self.current_leak, current_gain=self.current_gain)

    @property
    def current_leak(self) -> float | Tensor:
        """Share of a synaptic current that is left after a step: a number, or a tensor `[channel]`; 0 without one."""
        return self.decay_of("current_")

    @property
    def input_gain(self) -> float | Tensor:
        """Factor of the input, 1/tau where it is tied to that: a number, or a tensor of one per channel."""
        return 1 - self.leak if self._tied else self.gain

    def learns(self, kind: str) -> bool:
        """Return True if a decay is trained."""
        return hasattr(self, f"{kind}leak_logit")

    @property
    def leak(self) -> float | Tensor:
        """Share of the potential that is left after a step, `1 - 1/tau`: a number, or a tensor `[channel]`."""
        return self.decay_of("")

    @property
    def tau(self) -> float | Tensor:
        """The time constant of the potential in steps, `1 / (1 - leak)`: a number, or a tensor `[channel]`."""
        return time_constant(self.leak)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load decays; one that is a number here may be stored as a tensor of one entry."""
        for kind in ("", "current_", "adaptation_"):
            key, number = f"{prefix}{kind}leaks", getattr(self, f"_{kind}leak", None)
            stored = state_dict.get(key)
            if isinstance(stored, Tensor) and number is not None and stored.numel() == 1:
                del state_dict[key]
                if stored.item() != torch.tensor(number, dtype=torch.float64).to(stored.dtype).item():
                    setattr(self, f"_{kind}leak", stored.item())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def time_constant(leak: float | Tensor) -> float | Tensor:
    """Return `1 / (1 - leak)`."""
    return math.inf if isinstance(leak, float) and leak == 1 else 1 / (1 - leak)


def time_constants(owner: str, argument: str, tau: object, learned: bool) -> Tensor:
    """Check time constants and return them in double precision.

    Args:
        owner: Name of the neuron class, for messages.
        argument: Name of the argument, for messages.
        tau: What was given.
        learned: True if they are to be trained, and so above 1.

    Raises:
        ConfigError: They are not numbers in their range.
    """
    if isinstance(tau, bool):
        raise ConfigError(
            f"{owner}({argument}={tau}): {argument} is a number, and {tau} would stand for {float(tau)}. A library "
            f"that calls act_layer({tau}) means inplace, which neurons ignore: give it act_layer=lambda *_: "
            f"{owner}(). In {owner}({argument}=2.0): the time constant is a number of steps, or one number per channel."
        )
    asked = f"{owner}({argument}={shown(tau)})"
    if isinstance(tau, Tensor) and tau.requires_grad:
        raise ConfigError(
            f"{asked} was given a tensor that asks for a gradient, but {argument} is a start value, and no gradient "
            f"would reach it. Use {owner}({argument}={argument}.detach(), learn_{argument}=True), which trains the "
            f"logit of the leak; for a constant, {argument}.detach()."
        )
    try:
        value = torch.as_tensor(tau if is_numeric(tau) else (), dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, OverflowError, RuntimeError):  # rows of several lengths, numbers beyond floats
        value = torch.empty(0)
    if not value.numel():
        raise ConfigError(
            f"{asked}: the time constant is a number of steps, or one number per channel. Give a float such as "
            f"{argument}=2.0, or a list of as many as there are channels."
        )
    if not bool((value >= 1).all()) or (learned and bool((value == 1).any())):
        bound = "above 1 to be learned" if learned else "at least 1"
        raise ConfigError(
            f"{asked}: the time constant is in steps and leak = 1 - 1/tau, so {argument} must be {bound}. "
            f"A leak (snnTorch's beta) is given as {argument} = 1 / (1 - beta)."
        )
    if not bool(value.isfinite().all()):
        raise ConfigError(
            f"{asked}: the time constant is a finite number of steps. Neurons that retain everything are IF()."
        )
    return value.detach().clone()
