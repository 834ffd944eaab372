"""Operations that change the shape of a tensor, or nothing, in a NIR graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spikewright.interop.nir.tracing import Handler, Trace


def _reshaped(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    """Record a Flatten node, of `[batch, *feature]`, if neighbouring axes of a sample are joined."""
    x, y = args[0], func(*args, **kwargs)
    before, after = list(x.shape), list(y.shape)
    if before == after:
        return trace.mark(y, trace.sources(x) or ())
    joined = _joined(before[1:], after[1:]) if after and before[0] == after[0] else None
    if joined is None:
        raise trace.refuse(
            f"{func.__name__} from {['batch', *before[1:]]} to {after}",
            "the node Flatten joins neighbouring axes of a sample, and there is no other node that reshapes",
            "Keep the axes, or flatten.",
        )
    start, end = joined
    values = {"input_type": tuple(before[1:]), "start_dim": start, "end_dim": end}
    return trace.output("Flatten", values, x, y)


def _joined(before: Sequence[int], after: Sequence[int]) -> tuple[int, int] | None:
    """Return the first and the last axis that are joined."""
    count = len(before) - len(after) + 1
    for start in range(len(after)) if count > 1 else ():
        size = 1
        for axis in before[start : start + count]:
            size *= axis
        if [*before[:start], size, *before[start + count :]] == list(after):
            return start, start + count - 1
    return None


def _kept(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    """Record nothing: the values stay as they are."""
    x, y = args[0], func(*args, **kwargs)
    if not isinstance(y, Tensor) or y.dtype != x.dtype:
        raise trace.refuse(
            f"{func.__name__} to {getattr(y, 'dtype', type(y).__name__)}",
            "a graph of NIR has no types of numbers",
            "Cast the input of the network instead.",
        )
    return trace.mark(y, trace.sources(x) or ())


def _read(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Return sizes and types, which are the same for all inputs."""
    return func(*args, **kwargs)


_READ = (
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda")),
    *(getattr(Tensor, name).__get__ for name in ("layout", "is_sparse", "is_quantized", "is_meta", "grad_fn")),
    *(Tensor.dim, Tensor.size, Tensor.numel, Tensor.nelement, Tensor.is_floating_point, Tensor.is_complex),
    *(Tensor.__len__, torch.is_floating_point, torch.is_complex, Tensor.is_contiguous, torch.numel, Tensor.stride),
    *(Tensor.element_size, Tensor.ndimension, Tensor.get_device, Tensor.__repr__, Tensor.__hash__),
)
_KEPT = (Tensor.contiguous, Tensor.clone, torch.clone, Tensor.detach, torch.detach, Tensor.to, Tensor.float)
_SAME = (Tensor.double, Tensor.type_as, Tensor.requires_grad_)
_SHAPES = (torch.flatten, Tensor.flatten, Tensor.view, Tensor.reshape, torch.reshape, torch.squeeze, Tensor.squeeze)

HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(_READ, _read),
    **dict.fromkeys((*_KEPT, *_SAME), _kept),
    **dict.fromkeys((*_SHAPES, torch.unsqueeze, Tensor.unsqueeze), _reshaped),
}
"""Handlers of operations, by function of torch."""
