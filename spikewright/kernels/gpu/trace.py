# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
"""The trace scan: a program takes a block of entries through all steps, their traces in registers."""

import triton
import triton.language as tl
from torch import Tensor

from spikewright.kernels.gpu.launch import bits, start
from spikewright.kernels.gpu.lif import AHEAD, real
from spikewright.kernels.gpu.operand import each, number
from spikewright.temporal import is_static


def trace(
    x: Tensor, before: Tensor | None, leaks: Tensor | None, leak: float, traces: Tensor | None, after: Tensor
) -> None:
    """Fill `after` `[...]` and, where they are wanted, `traces` `[time, ...]`; `x` may be one repeated step."""
    start(_trace, x, x, before, leaks, bits(leak), traces, after, REPEATED=is_static(x), REAL=real(after))


@triton.jit(do_not_specialize=["leak", "steps"])
def _trace(
    x,
    before,
    leaks,
    leak,
    traces,
    after,
    steps,
    width,
    REPEATED: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    entries = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = entries < width
    leak = each(leaks, number(leak, REAL), entries, inside, REAL, BLOCK)
    p = each(before, 0, entries, inside, REAL, BLOCK)
    for _ in tl.range(steps, num_stages=AHEAD):
        p = tl.load(x + entries, inside, other=0).to(REAL) + leak * p
        if traces is not None:
            tl.store(traces + entries, p, inside)
            traces += width
        if not REPEATED:
            x += width
    tl.store(after + entries, p, inside)
