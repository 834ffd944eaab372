"""What each operation of torch is in a NIR graph; operations that are not in the table are refused."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.interop.nir.arithmetic import HANDLERS as ARITHMETIC
from spikewright.interop.nir.arithmetic import times
from spikewright.interop.nir.shapes import HANDLERS as SHAPES
from spikewright.interop.nir.tracing import Handler, Trace


def _array(value: Tensor) -> Any:
    return value.detach().double().cpu().numpy()


def _constant(trace: Trace, name: str, value: object) -> None:
    if trace.sources(value) is not None:
        raise trace.refuse(
            f"{name} of two tensors that both depend on the input",
            "a node has constants for weights and factors",
            "Use layers with parameters.",
        )


def _linear(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parse(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        return input, weight, bias

    x, weight, bias = parse(*args, **kwargs)
    _constant(trace, "linear", weight)
    if x.dim() != 2:
        raise trace.refuse(
            f"a linear layer over input of shape [batch, {', '.join(map(str, x.shape[1:]))}]",
            "the nodes Linear and Affine take one vector for each sample",
            "Flatten in front of it.",
        )
    values = {"weight": _array(weight)} if bias is None else {"weight": _array(weight), "bias": _array(bias)}
    return trace.output("Linear" if bias is None else "Affine", values, x, func(*args, **kwargs))


def _convolution(axes: int) -> Handler:
    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
        def parse(
            input: Tensor,
            weight: Tensor,
            bias: Tensor | None = None,
            stride: Any = 1,
            padding: Any = 0,
            dilation: Any = 1,
            groups: int = 1,
        ) -> Tensor:
            _constant(trace, "convolution", weight)
            none = torch.zeros(weight.shape[0])
            values = {
                "weight": _array(weight),
                "bias": _array(none if bias is None else bias),
                "stride": _sizes(stride, axes),
                "padding": padding if isinstance(padding, str) else _sizes(padding, axes),
                "dilation": _sizes(dilation, axes),
                "groups": int(groups),
                "input_shape": tuple(input.shape[2:]),
            }
            return trace.output(f"Conv{axes}d", values, input, func(*args, **kwargs))

        return parse(*args, **kwargs)

    return handler


def _sizes(value: Any, axes: int) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in value) if isinstance(value, tuple | list) else (int(value),)
    return sizes * axes if len(sizes) == 1 else sizes


def _avg_pool(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parse(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        kernel, around = _sizes(kernel_size, 2), _sizes(padding, 2)
        y = func(*args, **kwargs)
        plain = F.avg_pool2d(input, kernel, stride, around)
        if plain.shape != y.shape or (any(around) and not count_include_pad):
            raise trace.refuse(
                "average pooling with ceil_mode, or with padding that is not counted",
                "windows of NIR all have the same area",
                "Use ceil_mode=False and count_include_pad=True.",
            )
        values = {"kernel_size": kernel, "stride": _sizes(stride or kernel, 2), "padding": around}
        if divisor_override in (None, kernel[0] * kernel[1]):
            return trace.output("AvgPool2d", values, input, y)
        summed = trace.output("SumPool2d", values, input, y)
        return summed if divisor_override == 1 else times(trace, summed, 1 / divisor_override)

    return parse(*args, **kwargs)


def _adaptive_pool(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    x, y = (args or (kwargs["input"],))[0], func(*args, **kwargs)
    sizes = list(zip(x.shape[2:], y.shape[2:]))
    if any(before % after for before, after in sizes):
        raise trace.refuse(
            f"adaptive pooling from {list(x.shape[2:])} to {list(y.shape[2:])}",
            "windows of NIR all have the same size",
            "Choose an output size that divides the input size.",
        )
    kernel = tuple(before // after for before, after in sizes)
    return trace.output("AvgPool2d", {"kernel_size": kernel, "stride": kernel, "padding": (0, 0)}, x, y)


def _batch_norm(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parse(
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if training or running_mean is None or running_var is None:
            raise trace.refuse(
                "batch norm in training, or without running statistics",
                "it normalises by the other samples, and a graph of NIR runs one",
                "Call net.eval() first.",
            )
        factor = 1 / torch.sqrt(running_var.double() + eps) * (1 if weight is None else weight.double())
        shift = (0 if bias is None else bias.double()) - running_mean.double() * factor
        values = {"factor": _array(factor), "shift": _array(shift)}
        return trace.output("BatchNorm", values, input, func(*args, **kwargs))

    return parse(*args, **kwargs)


def _dropout(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parse(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if training and p > 0:
            raise trace.refuse("dropout in training", "NIR has no random numbers", "Call net.eval() first.")
        return input

    return parse(*args, **kwargs)


HANDLERS: dict[Any, Handler] = {
    **SHAPES,
    **ARITHMETIC,
    F.linear: _linear,
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    F.batch_norm: _batch_norm,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), _dropout),
}
"""Handlers of operations, by function of torch."""
