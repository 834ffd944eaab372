r"""The neurons of DSR: a spike is sent as the value of the threshold, and the threshold is trained.

Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike Representation,
CVPR 2022, arXiv 2205.00459.
"""

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from spikewright._util.arguments import check_number
from spikewright._util.ranges import check_flag
from spikewright.errors import ConfigError
from spikewright.neurons._base import Neuron
from spikewright.neurons._constants import number_shown
from spikewright.surrogate import Sigmoid, Surrogate


class _Weighted(Neuron):
    """Neurons whose spikes are sent as `per_threshold` times the threshold, one trained number per layer."""

    threshold_units: ClassVar[bool] = True

    def __init__(
        self,
        threshold: float,
        firing_fraction: float,
        learn_threshold: bool,
        floor: float,
        threshold_grad: float,
        surrogate: Surrogate,
        inplace: bool,
        *,
        gain: float = 1.0,
        per_threshold: float = 1.0,
    ) -> None:
        name = type(self).__name__
        check_flag(name, learn_threshold=learn_threshold)
        check_number(name, "threshold", threshold, trained="For a trained threshold, use learn_threshold=True.")
        for key, value in (("firing_fraction", firing_fraction), ("floor", floor), ("threshold_grad", threshold_grad)):
            check_number(name, key, value)
        if not 0 < firing_fraction <= 1:
            raise ConfigError(
                f"{name}(firing_fraction={firing_fraction}): a neuron fires at this share of the threshold, so it must "
                "be above 0 and at most 1. Give a number such as firing_fraction=0.5."
            )
        if not 0 < floor <= threshold:
            raise ConfigError(
                f"{name}(threshold={threshold}, floor={floor}): training keeps the threshold at or above the floor, so "
                "the floor must be above 0 and the threshold must start there. Give 0 < floor <= threshold."
            )
        super().__init__(
            threshold=threshold,
            gain=gain,
            reset="subtract",
            detach_reset=True,
            surrogate=surrogate,
            inplace=inplace,
        )
        self.floor, self.threshold_grad = float(floor), float(threshold_grad)
        self._fraction, self._per_threshold = float(firing_fraction), per_threshold
        if learn_threshold:
            self.threshold = nn.Parameter(torch.tensor(float(threshold)))  # type: ignore[assignment]

    @property
    def reset_amount(self) -> float | Tensor:
        threshold: float | Tensor = self.threshold
        if not isinstance(threshold, Tensor):
            return threshold
        value = threshold.detach().clamp(min=self.floor)
        return value + self.threshold_grad * (threshold - threshold.detach())

    @property
    def firing_fraction(self) -> float:
        return self._fraction

    @property
    def spike_amplitude(self) -> float | Tensor:
        return self._per_threshold * self.reset_amount

    @torch.no_grad()
    def project(self) -> None:
        threshold: float | Tensor = self.threshold
        if not isinstance(threshold, Tensor):
            return
        if not is_parametrized(self, "threshold"):
            threshold.clamp_(min=self.floor)
        elif threshold < self.floor and all(hasattr(step, "right_inverse") for step in self._computed):
            self.threshold = threshold.clamp(min=self.floor)  # type: ignore[assignment]

    @property
    def _computed(self) -> ParametrizationList:
        """The parametrizations of the threshold."""
        return cast(ParametrizationList, self.get_submodule("parametrizations.threshold"))

    def extra_repr(self) -> str:
        learned = ", learn_threshold=True" if isinstance(self.threshold, Tensor) else ""
        threshold = number_shown(self.reset_amount)
        return f"threshold={threshold}{learned}, firing_fraction={self._fraction}, floor={self.floor}"


class DSRIF(_Weighted):
    r"""Integrate-and-fire neuron of DSR: fires at :math:`\alpha V_{th}`, and emits and loses :math:`V_{th}`.

    .. math::
        u[t] = v[t-1] + I[t], \qquad s[t] = \Theta(u[t] - \alpha V_{th}), \qquad v[t] = u[t] - V_{th} s[t], \qquad
        o[t] = V_{th} s[t].

    The rate map, from a mean current :math:`r` to a mean output, is :math:`\min(V_{th}, \max(0, r))`.  Over a sequence
    of T steps from rest, the mean output is exactly :math:`r - v[T]/T`.  The reset is soft and detached.  Input and
    output are `[time, batch, *feature]`; the state in a run is `membrane`, `[batch, *feature]`, in units of the
    threshold.

    Args:
        threshold: Threshold :math:`V_{th}`, or its start value if it is trained.  Finite number, at least `floor`.
            Default: 6.0.
        firing_fraction: Share :math:`\alpha` of the threshold at which a neuron fires: 0.5 rounds the rate to the
            nearest level, 1 rounds it down.  Number in (0, 1].  Default: 0.5.
        learn_threshold: True trains the threshold, one parameter per layer, `threshold`.  Default: True.
        floor: Lower bound of the trained threshold.  Number in (0, threshold].  Default: 0.01.
        threshold_grad: Factor of the gradient of the threshold, which is a sum over all neurons and samples.  The
            authors use 1 on CIFAR and 0.001 on ImageNet.  Any finite number.  Default: 1.0.
        surrogate: Slope of a spike, for rules that differentiate spikes (BPTT), with the potential in units of the
            threshold.  Instance of `spikewright.surrogate.Surrogate`.  DSR does not use it.  Default: `Sigmoid(4.0)`.
        inplace: Accepted and ignored, so that `act_layer=DSRIF` works in libraries that build activations with it.
            Default: False.

    Raises:
        ConfigError: An argument is not one finite number or is out of its range, or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    Reference:
        Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike
        Representation, CVPR 2022, arXiv 2205.00459.

    >>> import torch, spikewright as sw
    >>> from spikewright.neurons import DSRIF
    >>> net = sw.Network(torch.nn.Sequential(DSRIF(threshold=2.0)))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.5))
    >>> output.flatten().tolist()
    [0.0, 2.0, 0.0, 0.0]
    """

    def __init__(
        self,
        threshold: float = 6.0,
        firing_fraction: float = 0.5,
        learn_threshold: bool = True,
        floor: float = 0.01,
        threshold_grad: float = 1.0,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        inplace: bool = False,
    ) -> None:
        super().__init__(threshold, firing_fraction, learn_threshold, floor, threshold_grad, surrogate, inplace)

    @property
    def leak(self) -> float:
        """Share of the potential that is left after a step: 1."""
        return 1.0


class DSRLIF(_Weighted):
    r"""Leaky integrate-and-fire neuron of DSR, with leak :math:`\beta = e^{-\Delta t / \tau}`.

    .. math::
        u[t] = \beta v[t-1] + (1-\beta) I[t], \qquad s[t] = \Theta(u[t] - \alpha V_{th}), \qquad
        v[t] = u[t] - V_{th} s[t], \qquad o[t] = \frac{V_{th}}{\Delta t} s[t].

    Rates are means weighted by :math:`\beta^{T-t}`.  The rate map, from a mean current :math:`r` to a mean output, is
    :math:`\min(V_{th}/\Delta t, \max(0, r (1-\beta)/\Delta t))`.  The reset is soft and detached.  Input and output are
    `[time, batch, *feature]`; the state in a run is `membrane`, `[batch, *feature]`, in units of the threshold.

    Args:
        tau: Time constant, in units of time.  Finite number > 0.  Default: 1.0.
        dt: Length of a step, in the units of `tau`.  Finite number > 0.  Default: 0.05.
        threshold: Threshold :math:`V_{th}`, or its start value if it is trained.  Finite number, at least `floor`.
            Default: 0.3.
        firing_fraction: Share :math:`\alpha` of the threshold at which a neuron fires.  Number in (0, 1].
            Default: 0.3.
        learn_threshold: True trains the threshold, one parameter per layer, `threshold`.  Default: True.
        floor: Lower bound of the trained threshold.  Number in (0, threshold].  Default: 0.0005.
        threshold_grad: Factor of the gradient of the threshold, which is a sum over all neurons and samples.  Any
            finite number.  Default: None, :math:`\Delta t^2`, with which thresholds change relative to their size as
            fast as those of `DSRIF` of the same full scale :math:`V_{th}/\Delta t`.
        surrogate: Slope of a spike, for rules that differentiate spikes (BPTT), with the potential in units of the
            threshold.  Instance of `spikewright.surrogate.Surrogate`.  DSR does not use it.  Default: `Sigmoid(4.0)`.
        inplace: Accepted and ignored, so that `act_layer=DSRLIF` works in libraries that build activations with it.
            Default: False.

    Raises:
        ConfigError: An argument is not one finite number or is out of its range, or `surrogate` is not a `Surrogate`.
        ExtensionError: The slope of a custom surrogate at one number depends on other numbers, or is random.

    Reference:
        Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike
        Representation, CVPR 2022, arXiv 2205.00459.

    >>> import torch, spikewright as sw
    >>> from spikewright.neurons import DSRLIF
    >>> net = sw.Network(torch.nn.Sequential(DSRLIF(tau=1.0, dt=0.5, threshold=1.0)))
    >>> output, state = net.run(torch.full((4, 1, 1), 0.5))
    >>> output.flatten().tolist()
    [0.0, 2.0, 0.0, 0.0]
    """

    def __init__(
        self,
        tau: float = 1.0,
        dt: float = 0.05,
        threshold: float = 0.3,
        firing_fraction: float = 0.3,
        learn_threshold: bool = True,
        floor: float = 0.0005,
        threshold_grad: float | None = None,
        surrogate: Surrogate = Sigmoid(4.0),  # noqa: B008  (a frozen value)
        inplace: bool = False,
    ) -> None:
        check_number("DSRLIF", "tau", tau)
        check_number("DSRLIF", "dt", dt)
        tau, dt = float(tau), float(dt)
        if not (tau > 0 and dt > 0):
            raise ConfigError(
                f"DSRLIF(tau={tau}, dt={dt}): both are times in the same units, and a potential retains "
                "exp(-dt/tau) per step, so both must be above 0. Give positive numbers, such as tau=1.0, dt=0.05."
            )
        beta, scale = math.exp(-dt / tau), dt**2 if threshold_grad is None else threshold_grad
        super().__init__(
            threshold,
            firing_fraction,
            learn_threshold,
            floor,
            scale,
            surrogate,
            inplace,
            gain=1 - beta,
            per_threshold=1 / dt,
        )
        self._leak = beta

    @property
    def leak(self) -> float:
        """Share of the potential that is left after a step, `exp(-dt/tau)`."""
        return self._leak

    def extra_repr(self) -> str:
        return f"leak={self._leak:.4g}, {super().extra_repr()}"
