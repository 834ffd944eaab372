"""The linear operations of layers, with the two halves of their backward pass apart.

For y = op(x, W), the gradient at x needs W but not x, and the gradient at W needs x but not W.  So one call of the
ordinary backward pass, with another tensor in the place of x, gives the weight gradient at that tensor at no extra
cost.

Gradients of complex numbers are those of torch, dL/dRe + i dL/dIm, so W and x enter them conjugated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, ShapeError

Needed = tuple[bool, bool, bool]
"""True for those gradients, at x, weight and bias, that are needed."""
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""The gradients at x, weight and bias; `None` where not needed."""


class Operation(ABC):
    """A linear operation, y = op(x, W) + b, with time folded into the batch axis of x, `[time * batch, *feature]`."""

    @abstractmethod
    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return op(x, weight) + bias."""

    @abstractmethod
    def backward(self, grad: Tensor, factor: Tensor, weight: Tensor, needed: Needed) -> Gradients:
        """Return the gradients at x (through `weight`), at the weight (taken at `factor`) and at the bias."""

    @abstractmethod
    def patches(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the inputs of every output, in the order of its part of the weight, `[any, inputs per output]`."""

    @abstractmethod
    def at_patches(self, grad: Tensor, patches: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient at the weight for given patches, in the order of `patches`."""

    @abstractmethod
    def expects(self, weight: Tensor) -> str:
        """Return the input layout in words."""

    @abstractmethod
    def accepts(self, x: Tensor, weight: Tensor) -> bool:
        """True if `x` has that layout."""

    @abstractmethod
    def meets(self, values: Tensor, weight: Tensor) -> float:
        """Return the sum of `values`, which has the layout of x, each times the number of weights that it meets.

        Padding that the operation adds itself meets nothing.
        """

    def check(self, site: str, x: Tensor, weight: Tensor) -> None:
        """Raise `ShapeError` if `x`, with time folded into the batch, cannot enter the operation of a layer."""
        if not self.accepts(x, weight):
            raise ShapeError(
                f"'{site}' expects {self.expects(weight)} once time is folded into the batch, but got {list(x.shape)}."
            )

    @abstractmethod
    def rows(self, grad: Tensor) -> Tensor:
        """Return a gradient at the output as `[time * any, channel]`, summed over positions of space."""

    def bias_gradient(self, grad: Tensor, factor: Tensor) -> Tensor:
        """Return `grad` summed over all axes but channels, each step weighted by its entry of `factor`, `[time]`."""
        rows = self.rows(grad)
        return factor.to(rows.dtype).conj().repeat_interleave(len(rows) // len(factor)) @ rows


@dataclass(frozen=True)
class Linear(Operation):
    """The operation of `F.linear`."""

    @staticmethod
    def parse(
        input: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> tuple[Operation, Tensor, Tensor, Tensor | None]:
        """Read a call of `F.linear`."""
        return Linear(), input, weight, bias

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def backward(self, grad: Tensor, factor: Tensor, weight: Tensor, needed: Needed) -> Gradients:
        need_x, need_weight, need_bias = needed
        for_weight = self.rows(grad).T @ factor.flatten(0, -2).conj() if need_weight else None
        return grad @ weight.conj() if need_x else None, for_weight, self.rows(grad).sum(0) if need_bias else None

    def rows(self, grad: Tensor) -> Tensor:
        return grad.flatten(0, -2)

    def patches(self, x: Tensor, weight: Tensor) -> Tensor:
        return x.flatten(0, -2)

    def at_patches(self, grad: Tensor, patches: Tensor, weight: Tensor) -> Tensor:
        return self.rows(grad).T @ patches.conj()

    def meets(self, values: Tensor, weight: Tensor) -> float:
        return float(values.sum()) * weight.shape[0]

    def expects(self, weight: Tensor) -> str:
        return f"[batch, ..., {weight.shape[1]}]"

    def accepts(self, x: Tensor, weight: Tensor) -> bool:
        return x.dim() >= 2 and x.shape[-1] == weight.shape[1]


@dataclass(frozen=True)
class Convolution(Operation):
    """The operation of `F.conv*d` and `F.conv_transpose*d`."""

    function: Callable[..., Tensor]
    dimensions: int
    transposed: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @staticmethod
    def parser(
        function: Callable[..., Tensor], dimensions: int, transposed: bool
    ) -> Callable[..., tuple[Operation, Tensor, Tensor, Tensor | None]]:
        """Return the parser of calls of one of torch's convolution functions."""

        def each(value: Any) -> tuple[int, ...]:
            value = (value,) if isinstance(value, int) else tuple(value)
            return value * dimensions if len(value) == 1 else value

        def parse_forward(
            input: Tensor,
            weight: Tensor,
            bias: Tensor | None = None,
            stride: Any = 1,
            padding: Any = 0,
            dilation: Any = 1,
            groups: int = 1,
        ) -> tuple[Operation, Tensor, Tensor, Tensor | None]:
            if isinstance(padding, str):
                input, padding = _explicit_padding(input, weight, padding, each(dilation))
            operation = Convolution(
                function, dimensions, False, each(stride), each(padding), each(0), each(dilation), groups
            )
            return operation, input, weight, bias

        def parse_transposed(
            input: Tensor,
            weight: Tensor,
            bias: Tensor | None = None,
            stride: Any = 1,
            padding: Any = 0,
            output_padding: Any = 0,
            groups: int = 1,
            dilation: Any = 1,
        ) -> tuple[Operation, Tensor, Tensor, Tensor | None]:
            operation = Convolution(
                function, dimensions, True, each(stride), each(padding), each(output_padding), each(dilation), groups
            )
            return operation, input, weight, bias

        return parse_transposed if transposed else parse_forward

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.transposed:
            return self.function(
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return self.function(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, factor: Tensor, weight: Tensor, needed: Needed) -> Gradients:
        return (self._complex_backward if grad.is_complex() else self._real_backward)(grad, factor, weight, needed)

    def _complex_backward(self, grad: Tensor, factor: Tensor, weight: Tensor, needed: Needed) -> Gradients:
        """Return the gradients, composed of those of real convolutions, because torch has no others."""
        parts = (needed[0], needed[1], False)
        g, x, w = ((z.real.contiguous(), z.imag.contiguous()) for z in (grad, factor, weight))
        straight = (self._real_backward(g[i], x[i], w[i], parts) for i in (0, 1))
        crossed = (self._real_backward(g[1 - i], x[i], w[i], parts) for i in (0, 1))
        real, imaginary = zip(*straight), zip(*crossed)
        for_x, for_weight, _ = (
            None if a is None or b is None or c is None or d is None else torch.complex(a + b, c - d)
            for (a, b), (c, d) in zip(real, imaginary)
        )
        return for_x, for_weight, self.rows(grad).sum(0) if needed[2] else None

    def _real_backward(self, grad: Tensor, factor: Tensor, weight: Tensor, needed: Needed) -> Gradients:
        return torch.ops.aten.convolution_backward(
            grad,
            factor,
            weight,
            [grad.shape[1]] if needed[2] else None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            needed,
        )

    def rows(self, grad: Tensor) -> Tensor:
        return grad.flatten(2).sum(2)

    def patches(self, x: Tensor, weight: Tensor) -> Tensor:
        if self.transposed:
            raise IncompatibleRule(
                "This rule needs the patches of every layer (the inputs of each output), but a transposed convolution "
                "has none: it spreads each input over outputs. Use an nn.Upsample and a convolution, or another rule."
            )
        x = F.pad(x, [n for padding in reversed(self.padding) for n in (padding, padding)])
        for axis, (side, stride, dilation) in enumerate(zip(weight.shape[2:], self.stride, self.dilation), 2):
            x = x.unfold(axis, dilation * (side - 1) + 1, stride)[..., ::dilation]
        x = x.unflatten(1, (self.groups, -1)).movedim(1, 0)  # [group, batch, channel, *position, *side]
        return x.movedim(2, 2 + self.dimensions).reshape(-1, weight[0].numel())

    def at_patches(self, grad: Tensor, patches: Tensor, weight: Tensor) -> Tensor:
        by_group = grad.flatten(2).unflatten(1, (self.groups, -1)).permute(1, 2, 0, 3).flatten(2)
        return (by_group @ patches.conj().unflatten(0, (self.groups, -1))).reshape(weight.shape)

    def meets(self, values: Tensor, weight: Tensor) -> float:
        by_group = values.sum(0, keepdim=True).unflatten(1, (self.groups, -1)).sum(2)
        kernel = values.new_ones(self.groups, 1, *weight.shape[2:])
        met = torch.convolution(
            by_group,
            kernel,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )
        return float(met.sum()) * (weight.shape[1] if self.transposed else weight.shape[0] // self.groups)

    def expects(self, weight: Tensor) -> str:
        return f"[batch, {self._channels(weight)}{', size' * self.dimensions}]"

    def accepts(self, x: Tensor, weight: Tensor) -> bool:
        return x.dim() == self.dimensions + 2 and x.shape[1] == self._channels(weight)

    def _channels(self, weight: Tensor) -> int:
        return weight.shape[0] if self.transposed else weight.shape[1] * self.groups


def _explicit_padding(
    x: Tensor, weight: Tensor, padding: str, dilation: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """Return padding in numbers for "same" and "valid"; an odd total of "same" is padded on the high side first."""
    totals = [0 if padding == "valid" else d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
    uneven = [total % 2 for total in totals]
    if any(uneven):
        x = F.pad(x, [n for odd in reversed(uneven) for n in (0, odd)])
    return x, tuple(total // 2 for total in totals)
