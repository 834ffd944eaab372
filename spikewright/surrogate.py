r"""Surrogate slopes, used in the backward pass in place of the derivative of a spike.

A neuron fires :math:`s = \Theta(x)` at :math:`x = u - V_{th} \ge 0`.  The derivative of the step is 0 almost
everywhere, so the backward pass takes a slope :math:`\psi(x)` for :math:`ds/dx`.  Every slope here has area 1, its peak
at 0, and is finite for finite arguments.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.arguments import check_number, check_tensor
from spikewright._util.returned import wrong
from spikewright.errors import ConfigError

__all__ = ["ATan", "Rectangle", "Sigmoid", "Surrogate", "Triangle"]


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


def _positive(owner: str, name: str, value: float) -> float:
    check_number(owner, name, value, trained="A surrogate is not trained.")
    if not value > 0:
        raise ConfigError(
            f"{owner}({name}={value}): with {name} {'zero' if value == 0 else 'below zero'} the slope has no peak of "
            "positive, finite height at the threshold, and nothing is learned through it. Give a number above 0."
        )
    return float(value)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    r"""Slope of the logistic function.

    .. math::
        \psi(x) = \alpha\,\sigma(\alpha x)\,(1 - \sigma(\alpha x)), \qquad \psi(0) = \alpha/4, \qquad
        x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is 1.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 4.0, with peak 1.

    Raises:
        ConfigError: `alpha` is not one finite number > 0.

    >>> from spikewright.surrogate import Sigmoid
    >>> import torch
    >>> Sigmoid(alpha=4.0).slope(torch.tensor([0.0])).item()
    1.0
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _positive("Sigmoid", "alpha", self.alpha))

    def slope(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)


@dataclass(frozen=True)
class ATan(Surrogate):
    r"""Slope of the arc tangent.

    .. math::
        \psi(x) = \frac{\alpha/2}{1 + (\frac{\pi}{2} \alpha x)^2}, \qquad \psi(0) = \alpha/2, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is 1.

    Args:
        alpha: Steepness :math:`\alpha`.  Finite number > 0.  Default: 2.0, with peak 1.

    Raises:
        ConfigError: `alpha` is not one finite number > 0.

    >>> from spikewright.surrogate import ATan
    >>> import torch
    >>> ATan(alpha=2.0).slope(torch.tensor([0.0])).item()
    1.0
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _positive("ATan", "alpha", self.alpha))

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x).square())


@dataclass(frozen=True)
class Triangle(Surrogate):
    r"""Triangular slope.

    .. math::
        \psi(x) = \max(0,\, 1 - |x|), \qquad \psi(0) = 1, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is 1; the slope
    is 0 for :math:`|x| \ge 1`.

    >>> from spikewright.surrogate import Triangle
    >>> import torch
    >>> Triangle().slope(torch.tensor([-2.0, 0.0, 0.25])).tolist()
    [0.0, 1.0, 0.75]
    """

    def slope(self, x: Tensor) -> Tensor:
        return (1 - x.abs()).clamp_min(0)


@dataclass(frozen=True)
class Rectangle(Surrogate):
    r"""Rectangular slope.

    .. math::
        \psi(x) = \frac{1}{g} \ \text{for}\ |x| \le g/2, \qquad \psi(x) = 0 \ \text{elsewhere}, \qquad
        \psi(0) = 1/g, \qquad x = u - V_{th}.

    The forward pass is the step function, 1 for :math:`x \ge 0`.  The area under the slope is 1.

    Args:
        width: Width :math:`g`.  Finite number > 0.  Default: 1.0, with peak 1.

    Raises:
        ConfigError: `width` is not one finite number > 0.

    >>> from spikewright.surrogate import Rectangle
    >>> import torch
    >>> Rectangle(width=0.5).slope(torch.tensor([0.25, 0.3])).tolist()
    [2.0, 0.0]
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _positive("Rectangle", "width", self.width))

    def slope(self, x: Tensor) -> Tensor:
        return (x.abs() <= self.width / 2).to(x.dtype) / self.width


def __dir__() -> list[str]:
    return __all__
