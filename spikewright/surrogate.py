r"""Surrogate slopes, used in the backward pass in place of the derivative of a spike.

A neuron fires :math:`s = \Theta(x)` at :math:`x = u - V_{th} \ge 0`.  The derivative of the step is 0 almost
everywhere, so the backward pass takes a slope :math:`\psi(x)` for :math:`ds/dx`.  Every slope here is even, has its
peak at 0 and the area :math:`f`, its `factor` (1 by default), and is finite for finite arguments.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.arguments import LARGEST, check_number, check_tensor
from spikewright._util.returned import wrong
from spikewright.errors import ConfigError

__all__ = ["ATan", "Erf", "Exponential", "FastSigmoid", "Rectangle", "Sigmoid", "Surrogate", "Triangle"]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: "Surrogate") -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * slope_at(ctx.surrogate, x), None


class Surrogate(ABC):
    r"""Base class of surrogates: the step function forward, `slope` backward.

    .. math::
        s = \Theta(x) = \begin{cases} 1 & x \ge 0 \\ 0 & x < 0 \end{cases}, \qquad
        \frac{\partial s}{\partial x} := \psi(x), \qquad x = u - V_{th}.

    A custom surrogate subclasses this and implements `slope`.  The slope must be elementwise and not random: `x` is one
    step or all steps of a chunk, and the slope at a number must not depend on what else `x` holds.  Neurons check this
    when they are made.  Fused scans compute the slopes of built-in surrogates inside the kernel, and call `slope` of a
    custom one once per chunk.

    >>> import torch, spikewright as sw
    >>> class Steep(sw.surrogate.Surrogate):
    ...     def slope(self, x):
    ...         return 1 / (1 + 25 * x.abs()) ** 2
    >>> neuron = sw.LIF(surrogate=Steep())
    >>> Steep()(torch.tensor([-0.1, 0.0, 0.1])).tolist()
    [0.0, 1.0, 1.0]
    """

    @abstractmethod
    def slope(self, x: Tensor) -> Tensor:
        """Return the slope at every entry of `x`.

        Args:
            x: Potential minus threshold.  Tensor of any shape; the result has its shape.
        """

    def __call__(self, x: Tensor) -> Tensor:
        """Return 1 where `x >= 0` and 0 elsewhere, in the dtype of `x`; the backward pass multiplies by `slope`.

        Args:
            x: Potential minus threshold.  Tensor of any shape.
        """
        if not isinstance(x, Tensor):
            check_tensor("x", x, "of any shape")
        return _Spike.apply(x, self)  # type: ignore[return-value]


def slope_at(surrogate: Surrogate, x: Tensor) -> Tensor:
    """Return the slope at every entry of `x`, in its shape and dtype.

    Raises:
        ExtensionError: A custom surrogate returned something else.
    """
    slope: Any = surrogate.slope(x)
    if isinstance(slope, Tensor) and slope.shape == x.shape and slope.dtype == x.dtype:
        return slope
    if not isinstance(slope, Tensor) or slope.is_complex() or slope.dim() > x.dim():
        raise wrong(surrogate, "slope", f"a tensor of the shape of its argument, {list(x.shape)}", slope)
    try:
        return slope.to(x.dtype).expand_as(x)
    except RuntimeError as error:
        raise wrong(surrogate, "slope", f"a tensor of the shape of its argument, {list(x.shape)}", slope) from error


class _BuiltIn(Surrogate):
    """A surrogate with a steepness `alpha` or a `width`, and a `factor`."""

    factor: float

    def __post_init__(self) -> None:
        for name, value in self._numbers().items():
            object.__setattr__(self, name, _positive(type(self).__name__, name, value))
        for peak, part in ((self._peak(), ""), (self._peak() / self.factor, " without the factor")):
            if peak > LARGEST:
                raise ConfigError(
                    f"{self} was asked for, but its peak{part} is {peak:.3g}, too large for single precision, in which "
                    f"gradients would be infinite. Give numbers for a peak up to {LARGEST:.0e}."
                )

    def __repr__(self) -> str:
        shown = {name: value for name, value in self._numbers().items() if name != "factor" or value != 1}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def _numbers(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("alpha", "width", "factor") if hasattr(self, name)}

    @abstractmethod
    def _peak(self) -> float:
        """Return the slope at 0, the largest."""


def _positive(owner: str, name: str, value: float) -> float:
    check_number(owner, name, value, trained="A surrogate is not trained.")
    if not value > 0:
        raise ConfigError(
            f"{owner}({name}={value}): with {name} {'zero' if value == 0 else 'below zero'} the slope has no peak of "
            "positive, finite height at the threshold, and nothing is learned through it. Give a number above 0."
        )
    return float(value)


@dataclass(frozen=True, repr=False)
class Sigmoid(_BuiltIn):
    r"""Slope of the logistic function.

    .. math::
        \psi(x) = f\,\alpha\,\sigma(\alpha x)\,(1 - \sigma(\alpha x)), \qquad \psi(0) = f \alpha/4, \qquad
        x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.
    With :math:`\alpha = 2k` and :math:`f = 2/k` it is :math:`1 - \tanh^2(k x)`.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 4.0, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `alpha` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import Sigmoid
    >>> import torch
    >>> Sigmoid(alpha=4.0).slope(torch.tensor([0.0])).item()
    1.0
    >>> Sigmoid(alpha=4.0, factor=0.5).slope(torch.tensor([0.0])).item()
    0.5
    """

    alpha: float = 4.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return self.factor * self.alpha * s * (1 - s)

    def _peak(self) -> float:
        return self.factor * self.alpha / 4


@dataclass(frozen=True, repr=False)
class ATan(_BuiltIn):
    r"""Slope of the arc tangent.

    .. math::
        \psi(x) = f\,\frac{\alpha/2}{1 + (\frac{\pi}{2} \alpha x)^2}, \qquad \psi(0) = f \alpha/2, \qquad
        x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 2.0, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `alpha` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import ATan
    >>> import torch
    >>> ATan(alpha=2.0).slope(torch.tensor([0.0])).item()
    1.0
    """

    alpha: float = 2.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self._peak() / (1 + (math.pi / 2 * self.alpha * x).square())

    def _peak(self) -> float:
        return self.factor * self.alpha / 2


@dataclass(frozen=True, repr=False)
class Triangle(_BuiltIn):
    r"""Triangular slope.

    .. math::
        \psi(x) = f \alpha \max(0,\, 1 - \alpha |x|), \qquad \psi(0) = f \alpha, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`;
    the slope is 0 for :math:`|x| \ge 1/\alpha`.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 1.0, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `alpha` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import Triangle
    >>> import torch
    >>> Triangle().slope(torch.tensor([-2.0, 0.0, 0.25])).tolist()
    [0.0, 1.0, 0.75]
    >>> Triangle(alpha=2.0).slope(torch.tensor([-0.5, 0.0, 0.25])).tolist()
    [0.0, 2.0, 1.0]
    """

    alpha: float = 1.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self._peak() * (1 - (self.alpha * x).abs()).clamp_min(0)

    def _peak(self) -> float:
        return self.factor * self.alpha


@dataclass(frozen=True, repr=False)
class Rectangle(_BuiltIn):
    r"""Rectangular slope.

    .. math::
        \psi(x) = \frac{f}{g} \ \text{for}\ |x| \le g/2, \qquad \psi(x) = 0 \ \text{elsewhere}, \qquad
        \psi(0) = f/g, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.

    Args:
        width: Width :math:`g`.  Finite number > 0.  Default: 1.0, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `width` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import Rectangle
    >>> import torch
    >>> Rectangle(width=0.5).slope(torch.tensor([0.25, 0.3])).tolist()
    [2.0, 0.0]
    """

    width: float = 1.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self.factor * ((x.abs() <= self.width / 2).to(x.dtype) / self.width)

    def _peak(self) -> float:
        return self.factor / self.width


@dataclass(frozen=True, repr=False)
class FastSigmoid(_BuiltIn):
    r"""Slope of the fast sigmoid (softsign) function, with heavy tails.

    .. math::
        \psi(x) = f\,\frac{\alpha/2}{(1 + \alpha |x|)^2}, \qquad \psi(0) = f \alpha/2, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.
    With :math:`f = 2/\alpha` it is :math:`1/(1 + \alpha |x|)^2`, the form of SuperSpike.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 2.0, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `alpha` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import FastSigmoid
    >>> import torch
    >>> FastSigmoid(alpha=2.0).slope(torch.tensor([0.0, 0.5])).tolist()
    [1.0, 0.25]
    >>> k = 25.0
    >>> FastSigmoid(k, factor=2 / k).slope(torch.tensor([0.0])).item()
    1.0

    References:
        Zenke and Ganguli, SuperSpike: Supervised Learning in Multilayer Spiking Neural Networks, Neural Computation 30,
        2018.
    """

    alpha: float = 2.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self._peak() / (1 + (self.alpha * x).abs()).square()

    def _peak(self) -> float:
        return self.factor * self.alpha / 2


@dataclass(frozen=True, repr=False)
class Exponential(_BuiltIn):
    r"""Two-sided exponential slope.

    .. math::
        \psi(x) = \frac{f}{2 w}\, e^{-|x| / w}, \qquad \psi(0) = \frac{f}{2 w}, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.

    Args:
        width: Distance :math:`w` over which the slope falls by e.  Finite number > 0.  Default: 0.5, with peak 1.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `width` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import Exponential
    >>> import torch
    >>> Exponential(width=0.25).slope(torch.tensor([0.0])).item()
    2.0

    References:
        Shrestha and Orchard, SLAYER: Spike Layer Error Reassignment in Time, NeurIPS 2018.
    """

    width: float = 0.5
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self._peak() * torch.exp(-(x / self.width).abs())

    def _peak(self) -> float:
        return self.factor / 2 / self.width


@dataclass(frozen=True, repr=False)
class Erf(_BuiltIn):
    r"""Slope of the error function, a Gaussian.

    .. math::
        \psi(x) = f\,\frac{\alpha}{\sqrt{\pi}}\, e^{-(\alpha x)^2}, \qquad \psi(0) = f \frac{\alpha}{\sqrt{\pi}}, \qquad
        x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is the factor :math:`f`.
    The standard deviation of the Gaussian is :math:`1/(\sqrt{2}\,\alpha)`.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 2.0, with peak 1.13.
        factor: Factor :math:`f` of the slope.  Finite number > 0.  Default: 1.0.

    Raises:
        ConfigError: `alpha` or `factor` is not one finite number > 0, or the peak overflows float32.

    >>> from spikewright.surrogate import Erf
    >>> import torch
    >>> sigma = 0.5
    >>> gaussian = Erf(1 / (2**0.5 * sigma))
    >>> round(gaussian.slope(torch.tensor([0.0])).item(), 3)
    0.798
    """

    alpha: float = 2.0
    factor: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self._peak() * torch.exp(-(self.alpha * x).square())

    def _peak(self) -> float:
        return self.factor * self.alpha / math.sqrt(math.pi)


BUILT_IN: tuple[type[Surrogate], ...] = (ATan, Erf, Exponential, FastSigmoid, Rectangle, Sigmoid, Triangle)
"""The surrogates of the library, whose slopes are elementwise; the fused scans know them."""


def __dir__() -> list[str]:
    return __all__
