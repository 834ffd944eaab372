"""A value that a simulation recorded, in a graph at rates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class AsRecorded(torch.autograd.Function):
    """A recorded value with the derivative of a rate map at a recorded current; saves only that current."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, at: Tensor, value: Tensor, rate_map: Callable[[Tensor], Tensor], *constants: Tensor
    ) -> Tensor:
        ctx.rate_map, ctx.constants = rate_map, constants
        ctx.save_for_backward(at)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (at,) = ctx.saved_tensors
        wanted = [tensor for tensor, needed in zip(ctx.constants, ctx.needs_input_grad[4:]) if needed]
        with torch.enable_grad():
            rate = at.detach().requires_grad_()
            found = torch.autograd.grad(
                [ctx.rate_map(rate)], [rate, *wanted], [grads[0]], allow_unused=True, materialize_grads=True
            )
        for_constants = iter(found[1:])
        at_constants = [next(for_constants) if needed else None for needed in ctx.needs_input_grad[4:]]
        return found[0] if ctx.needs_input_grad[0] else None, None, None, None, *at_constants


def is_recorded(node: Any) -> bool:
    """Return True if a node of the graph is a recorded value."""
    return getattr(node, "_forward_cls", None) is AsRecorded
