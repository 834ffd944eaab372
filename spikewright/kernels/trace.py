r"""The trace scan: a leaky sum of what has arrived, :math:`p[t] = \lambda p[t-1] + x[t]`, without a graph."""

import torch
from torch import Tensor


@torch.no_grad()
def trace_scan(x: Tensor, trace: Tensor | None, leak: float | Tensor) -> Tensor:
    """Return the trace after every step of a chunk.

    Args:
        x: What arrived, `[time, *shape]`.
        trace: The trace before this chunk, `[*shape]`; `None` is zero.
        leak: Retained fraction per step.  A tensor must broadcast to `[*shape]`.

    Returns:
        `[time, *shape]`, in float32 for inputs of half precision; its last entry is what the next chunk starts from.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()  # a long sum of small terms
    traces = []
    for step in x:
        if trace is None:
            trace = step.clone()  # the caller may reuse the buffer of its input
        else:
            trace = step + leak * trace if isinstance(leak, Tensor) else torch.add(step, trace, alpha=leak)
        traces.append(trace)
    return traces[0].unsqueeze(0) if len(traces) == 1 else torch.stack(traces)
