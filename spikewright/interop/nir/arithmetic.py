"""Sums of tensors and products with constants, in a NIR graph."""

from typing import Any

import torch
from torch import Tensor

from spikewright.interop.nir.tracing import Handler, Trace


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
            there = trace.sources(times(trace, right, factor)) or ()
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
    result = times(trace, left, factor)
    if func in _IN_PLACE:
        trace.check_alone(left)
        return trace.mark(left.copy_(result), trace.sources(result) or ())
    return result


def times(trace: Trace, x: Tensor, factor: Any) -> Tensor:
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
    return times(trace, args[0], -1.0)


_REVERSED = {Tensor.__rsub__}
_IN_PLACE = {Tensor.add_, Tensor.__iadd__, Tensor.sub_, Tensor.__isub__, Tensor.mul_, Tensor.__imul__} | {
    Tensor.div_,
    Tensor.__itruediv__,
}
_DIVISIONS = {torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.__itruediv__, torch.true_divide}


def _all(handler: Handler, *functions: Any) -> dict[Any, Handler]:
    return dict.fromkeys(functions, handler)


HANDLERS: dict[Any, Handler] = {
    **_all(_sum(1.0), torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__),
    **_all(_sum(-1.0), torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, Tensor.sub_, Tensor.__isub__),
    **_all(_product, torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.mul_, Tensor.__imul__),
    **_all(_product, *_DIVISIONS),
    **_all(_negative, torch.neg, Tensor.neg, Tensor.__neg__),
}
"""Handlers of operations, by function of torch."""
