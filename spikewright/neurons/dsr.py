r"""The neurons of DSR: a spike carries the threshold, and the threshold is trained.

Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike Representation,
CVPR 2022, arXiv 2205.00459.
"""

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from spikewright._util.arguments import check_number
from spikewright.errors import ConfigError
from spikewright.neurons._base import Neuron
from spikewright.surrogate import Sigmoid, Surrogate


class _Weighted(Neuron):
    """Neurons whose spikes carry `per_threshold` times their threshold; one number, trained, serves the layer."""

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
        check_number(name, "threshold", threshold, trained="For a trained threshold, use learn_threshold=True.")
        for key, value in (("firing_fraction", firing_fraction), ("floor", floor), ("threshold_grad", threshold_grad)):
            check_number(name, key, value)
        if not 0 < firing_fraction <= 1:
            raise ConfigError(f"{name}(firing_fraction={firing_fraction}): it is a share of the threshold, in (0, 1].")
        if not 0 < floor <= threshold:
            raise ConfigError(
                f"{name}(threshold={threshold}, floor={floor}): the floor is what the threshold is kept above in "
                "training. Give 0 < floor <= threshold."
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
        """What computes the threshold, where it is parametrized."""
        return cast(ParametrizationList, self.get_submodule("parametrizations.threshold"))

    def extra_repr(self) -> str:
        learned = ", learn_threshold=True" if isinstance(self.threshold, Tensor) else ""
        value = torch.as_tensor(self.reset_amount).item()
        return f"threshold={value:.4g}{learned}, firing_fraction={self._fraction}, floor={self.floor}"


class DSRIF(_Weighted):
    r"""Integrate-and-fire in the convention of DSR: fires at :math:`\alpha V_{th}`, emits and loses :math:`V_{th}`.

    Its rate map is :math:`\min(V_{th}, \max(0, r))`, and the mean output is exactly :math:`r - v[T]/T`.

    Args:
        threshold: :math:`V_{th}`; where training starts if it is trained.
        firing_fraction: :math:`\alpha`; one half rounds the rate where 1 rounds it down.
        learn_threshold: Train the threshold, one number per layer, an ordinary parameter of the optimizer.
        floor: The least the threshold may become.
        threshold_grad: Factor of the threshold's gradient, which is a sum over all neurons and samples; the authors
            use 1 on CIFAR and 0.001 on ImageNet.
        surrogate: See `Neuron`; for rules that differentiate spikes, with the potential in units of the threshold.
        inplace: See `Neuron`.

    Raises:
        ConfigError: `firing_fraction` or `floor` is out of range, or an argument is not one finite number.
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
        return 1.0


class DSRLIF(_Weighted):
    r"""Leaky integrate-and-fire in the convention of DSR, with :math:`\beta = e^{-\Delta t / \tau}`.

    :math:`u[t] = \beta v[t-1] + (1-\beta) I[t]`; it fires at :math:`\alpha V_{th}`, loses :math:`V_{th}` and emits
    :math:`V_{th}/\Delta t`.  Rates are means weighted by :math:`\beta^{T-t}`; the rate map is
    :math:`\min(V_{th}/\Delta t, \max(0, r (1-\beta)/\Delta t))`.

    Args:
        tau: Time constant, in units of time.
        dt: Length of a step in the same units.
        threshold: :math:`V_{th}`; see `DSRIF`.
        firing_fraction: See `DSRIF`.
        learn_threshold: See `DSRIF`.
        floor: See `DSRIF`.
        threshold_grad: See `DSRIF`; `None` is :math:`\Delta t^2`, which makes thresholds move relative to their size
            as fast as those of `DSRIF` with full scale :math:`V_{th}/\Delta t`.
        surrogate: See `DSRIF`.
        inplace: See `Neuron`.

    Raises:
        ConfigError: `tau` or `dt` is not positive, or see `DSRIF`.
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
            raise ConfigError(f"DSRLIF(tau={tau}, dt={dt}): both are times in the same units, and positive.")
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
        return self._leak

    def extra_repr(self) -> str:
        return f"leak={self._leak:.4g}, {super().extra_repr()}"
