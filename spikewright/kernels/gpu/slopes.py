# pyright: reportMissingImports=false
"""Surrogate slopes of area 1 on a GPU, known by the numbers of `spikewright.kernels.operators.surrogate_number`."""

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
        y = 1 - tl.abs(parameter * x)
        slope = tl.where(y > 0, parameter * y, 0.0)
    elif SURROGATE == 4:
        slope = tl.where(tl.abs(x) <= parameter / 2, 1 / parameter, 0.0)
    elif SURROGATE == 5:
        y = 1 + parameter * tl.abs(x)
        slope = parameter / 2 / (y * y)
    elif SURROGATE == 6:
        slope = tl.exp(-tl.abs(x / parameter)) / (2 * parameter)
    else:
        tl.static_assert(SURROGATE == 7, "no such surrogate")
        z = parameter * x
        slope = 0.56418958354775628695 * parameter * tl.exp(-z * z)
    return slope
