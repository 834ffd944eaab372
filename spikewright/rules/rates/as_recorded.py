"""A value that a simulation recorded, in a graph at rates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Note = Callable[[Tensor, Tensor], None]
"""(gradient that arrived, gradient that is passed on): called in the backward pass of a layer of neurons."""


class AsRecorded(torch.autograd.Function):
    """A recorded value with the derivative of a rate map at a recorded current; saves only that current."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        at: Tensor,
        value: Tensor,
        rate_map: Callable[[Tensor], Tensor],
        note: Note | None,
        *constants: Tensor,
    ) -> Tensor:
        ctx.rate_map, ctx.note, ctx.constants = rate_map, note, constants
        ctx.save_for_backward(at)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (at,) = ctx.saved_tensors
        wanted = [tensor for tensor, needed in zip(ctx.constants, ctx.needs_input_grad[5:]) if needed]
        with torch.enable_grad():
            rate = at.detach().requires_grad_()
            found = torch.autograd.grad(
                [ctx.rate_map(rate)], [rate, *wanted], [grads[0]], allow_unused=True, materialize_grads=True
            )
        for_constants = iter(found[1:])
        at_constants = [next(for_constants) if needed else None for needed in ctx.needs_input_grad[5:]]
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, *at_constants
        if ctx.note is not None:
            ctx.note(grads[0], found[0])
        return found[0], None, None, None, None, *at_constants


def is_recorded(node: Any) -> bool:
    """Return True if a node of the graph is a recorded value."""
    return getattr(node, "_forward_cls", None) is AsRecorded
