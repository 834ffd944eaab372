"""What each operation of torch is in a NIR graph; operations that are not in the table are refused."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
        return summed if divisor_override == 1 else _times(trace, summed, 1 / divisor_override)

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


def _sum(sign: float) -> Handler:
    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
        factor = sign * kwargs.get("alpha", 1)
        left, right = (args + tuple(kwargs[key] for key in ("input", "other") if key in kwargs))[:2]
        if func in _REVERSED:
            left, right = right, left
        here, there = trace.sources(left), trace.sources(right)
        if here is None or there is None or left.shape != right.shape:
            raise trace.refuse(
                f"a sum of {_described(trace, left)} and {_described(trace, right)}",
                "edges into a node add up what other nodes send, in one shape",
                "Put a constant into the bias of a layer, and give both sides the same shape.",
            )
        if factor != 1:
            there = trace.sources(_times(trace, right, factor)) or ()
        result = left + factor * right
        if func in _IN_PLACE:
            trace.check_alone(left)
            result = left.copy_(result)
        return trace.mark(result, here + there)

    return handler


def _described(trace: Trace, value: object) -> str:
    kind = "a constant" if trace.sources(value) is None else "what depends on the input"
    return f"{kind} of shape {list(value.shape)}" if isinstance(value, Tensor) else f"{kind} ({value})"


def _product(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    left, right = (args + tuple(kwargs[key] for key in ("input", "other") if key in kwargs))[:2]
    divides = func in _DIVISIONS
    if trace.sources(left) is None and not divides:
        left, right = right, left
    if trace.sources(left) is None or trace.sources(right) is not None or kwargs.get("rounding_mode"):
        raise trace.refuse(
            "a product or quotient of tensors that depend on the input",
            "a Scale node multiplies by constants",
            "Only multiply by numbers and parameters.",
        )
    factor = 1 / torch.as_tensor(right, dtype=torch.float64) if divides else right
    result = _times(trace, left, factor)
    if func in _IN_PLACE:
        trace.check_alone(left)
        return trace.mark(left.copy_(result), trace.sources(result) or ())
    return result


def _times(trace: Trace, x: Tensor, factor: Any) -> Tensor:
    """Add a Scale node."""
    factors = torch.as_tensor(factor, dtype=torch.float64).detach().cpu()
    shape = x.shape[1:]
    if factors.dim() > len(shape):
        if factors.dim() > len(shape) + 1 or factors.shape[0] != 1:
            raise trace.refuse(
                f"a product with a constant of shape {list(factors.shape)}",
                "it differs from sample to sample or step to step",
                "Use a constant without a batch axis.",
            )
        factors = factors[0]
    scale = factors.expand(shape).clone()
    return trace.output("Scale", {"scale": scale.numpy()}, x, x * scale.to(x))


def _negative(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    return _times(trace, args[0], -1.0)


_REVERSED = {Tensor.__rsub__}
_IN_PLACE = {Tensor.add_, Tensor.__iadd__, Tensor.sub_, Tensor.__isub__, Tensor.mul_, Tensor.__imul__} | {
    Tensor.div_,
    Tensor.__itruediv__,
}
_DIVISIONS = {torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.__itruediv__, torch.true_divide}


def _all(handler: Callable[..., Any], *functions: Any) -> dict[Any, Handler]:
    return dict.fromkeys(functions, handler)


HANDLERS: dict[Any, Handler] = {
    **SHAPES,
    F.linear: _linear,
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    F.batch_norm: _batch_norm,
    **_all(_dropout, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
    **_all(_sum(1.0), torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__),
    **_all(_sum(-1.0), torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, Tensor.sub_, Tensor.__isub__),
    **_all(_product, torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.mul_, Tensor.__imul__),
    **_all(_product, *_DIVISIONS),
    **_all(_negative, torch.neg, Tensor.neg, Tensor.__neg__),
}
"""What to do with an operation, by function of torch."""
