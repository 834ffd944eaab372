# pyright: reportMissingImports=false
"""Surrogate slopes on a GPU, known by the numbers of `spikewright.kernels.operators.surrogate_number`."""

import triton
import triton.language as tl


@triton.jit
def slope_at(x, parameter, SURROGATE: tl.constexpr):
    """Return the slopes of a block at `x` = u - threshold."""
    if SURROGATE == 1:
        e = tl.exp(-tl.abs(parameter * x))
        slope = parameter * e / ((1 + e) * (1 + e))
    elif SURROGATE == 2:
        z = 1.57079632679489661923 * parameter * x
        slope = parameter / 2 / (1 + z * z)
    elif SURROGATE == 3:
        y = 1 - tl.abs(x)
        slope = tl.where(y > 0, y, 0.0)
    else:
        tl.static_assert(SURROGATE == 4, "no such surrogate")
        slope = tl.where(tl.abs(x) <= parameter / 2, 1 / parameter, 0.0)
    return slope
