r"""Surrogate slopes: what stands in for the derivative of a spike.

A neuron fires :math:`s = \Theta(x)` with :math:`x = u - V_{th}`, and fires at equality.  The derivative of the step is
zero almost everywhere, so the backward pass uses :math:`\psi'(x)` instead.  Every slope here has unit area, peaks at
zero, and is finite for any finite argument.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.arguments import check_number
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
    """The step forward, `slope` backward.  A surrogate of your own needs only `slope`."""

    @abstractmethod
    def slope(self, x: Tensor) -> Tensor:
        """Return the stand-in for ds/dx at `x` = membrane - threshold, same shape as `x`.

        The slope at a number is the same whatever else `x` holds, which may be one step or all steps of a chunk.
        """

    def __call__(self, x: Tensor) -> Tensor:
        """Return 1 where `x` >= 0 and 0 elsewhere, in the dtype of `x`; differentiable by `slope`."""
        return _Spike.apply(x, self)  # type: ignore[return-value]


def slope_at(surrogate: Surrogate, x: Tensor) -> Tensor:
    """Return the slope at every entry of `x`, in its shape and type.

    Raises:
        ExtensionError: A surrogate of one's own returned something else.
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
    r"""Slope of the logistic function, :math:`\alpha\,\sigma(\alpha x)(1-\sigma(\alpha x))`, peak :math:`\alpha/4`.

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
    r"""Slope of the arc tangent, :math:`\frac{\alpha}{2} / (1 + (\frac{\pi}{2}\alpha x)^2)`, peak :math:`\alpha/2`."""

    alpha: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _positive("ATan", "alpha", self.alpha))

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x).square())


@dataclass(frozen=True)
class Triangle(Surrogate):
    r"""Piecewise linear slope :math:`\max(0, 1-|x|)`, peak 1, support [-1, 1]."""

    def slope(self, x: Tensor) -> Tensor:
        return (1 - x.abs()).clamp_min(0)


@dataclass(frozen=True)
class Rectangle(Surrogate):
    r"""Slope :math:`1/g` for :math:`|x| \le g/2` and 0 elsewhere, with width :math:`g`; the support is closed."""

    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _positive("Rectangle", "width", self.width))

    def slope(self, x: Tensor) -> Tensor:
        return (x.abs() <= self.width / 2).to(x.dtype) / self.width


def __dir__() -> list[str]:
    return __all__
