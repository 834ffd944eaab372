r"""The trace scan: a leaky sum of what has arrived, :math:`p[t] = \lambda p[t-1] + x[t]`, without a graph."""

import torch
from torch import Tensor

from spikewright.kernels.layout import Layout, operands, precision
from spikewright.kernels.operators import fused


def trace_naive(x: Tensor, trace: Tensor | None, leak: float | Tensor) -> tuple[Tensor, Tensor]:
    """Step by step: what `trace_scan` means."""
    traces = []
    for step in x:
        # A clone, because the caller may reuse the buffer of its input.
        trace = step.clone() if trace is None else step + leak * trace
        traces.append(trace)
    assert trace is not None  # a chunk has at least one step
    return torch.stack(traces), trace


@torch.no_grad()
def trace_scan(x: Tensor, trace: Tensor | None, leak: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the trace after every step of a chunk, in one pass over memory where there is a kernel for it.

    Args:
        x: What arrived, `[time, *shape]`.
        trace: The trace before this chunk, `[*shape]`; `None` is zero.
        leak: Retained fraction per step.  A tensor must broadcast to `[*shape]`.

    Returns:
        `[time, *shape]`, and the last of them in memory of its own; in float32 for inputs of half precision.
    """
    if fused(x):
        return _trace_fused(x, trace, leak)
    x = x.to(precision(x))  # a long sum of small terms
    trace = None if trace is None else trace.to(x.dtype)
    return (_trace_fused if fused(x) else trace_naive)(x, trace, leak)


def _trace_fused(x: Tensor, trace: Tensor | None, leak: float | Tensor) -> tuple[Tensor, Tensor]:
    layout = Layout.of(x)
    traces, after = torch.ops.spikewright.trace(*operands(layout, x, trace, leak), True)
    return layout.undo_steps(traces), layout.undo_one(after)
