r"""Rate accumulation: :math:`a[t] = \lambda a[t-1] + x[t]` of which only the last value is kept, without a graph."""

import torch
from torch import Tensor

from spikewright.kernels.layout import Layout, operands, precision
from spikewright.kernels.operators import fused


def accumulate_naive(x: Tensor, total: Tensor | None, leak: float | Tensor) -> Tensor:
    """Step by step: what `accumulate` means."""
    for step in x:
        total = step.clone() if total is None else step + leak * total
    assert total is not None  # a chunk has at least one step
    return total


@torch.no_grad()
def accumulate(x: Tensor, total: Tensor | None, leak: float | Tensor = 1.0) -> Tensor:
    """Add a chunk to a running sum, each step weighted by the leak to the power of its age.

    Args:
        x: What arrived, `[time, *shape]`.
        total: The sum before this chunk, `[*shape]`; `None` is zero.
        leak: Retained fraction per step; 1 is the plain sum.  A tensor must broadcast to `[*shape]`.

    Returns:
        `[*shape]`; in float32 for inputs of half precision.
    """
    if not fused(x):
        x = x.to(precision(x))  # a long sum of small terms
        total = None if total is None else total.to(x.dtype)
    if not fused(x):
        return accumulate_naive(x, total, leak)
    layout = Layout.of(x)
    _, after = torch.ops.spikewright.trace(*operands(layout, x, total, leak), False)
    return layout.undo_one(after)
