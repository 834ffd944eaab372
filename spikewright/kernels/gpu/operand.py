# pyright: reportMissingImports=false
"""What every kernel does to its operands: a number arrives as bits, an array may be absent."""

import triton
import triton.language as tl


@triton.jit
def number(bits, REAL: tl.constexpr):
    """Return a double that was passed as an integer, rounded once, to the precision of the arithmetic."""
    return bits.to(tl.int64).to(tl.float64, bitcast=True).to(REAL)


@triton.jit
def each(array, otherwise, neurons, inside, REAL: tl.constexpr, BLOCK: tl.constexpr):
    """Return one value per neuron, those of `array` `[width]` or, where it is `None`, the number `otherwise`."""
    if array is None:
        return tl.full((BLOCK,), 0, REAL) + otherwise
    else:
        return tl.load(array + neurons, inside, other=0).to(REAL)


@triton.jit
def constant(value, neurons, inside, REAL: tl.constexpr, BLOCK: tl.constexpr):
    """Return one value per neuron, of a `value` that is an array `[width]` or the bits of a number."""
    if value.dtype.is_ptr():
        return tl.load(value + neurons, inside, other=0).to(REAL)
    else:
        return tl.full((BLOCK,), 0, REAL) + number(value, REAL)
