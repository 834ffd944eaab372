"""How a kernel is launched: a program takes a block of neurons through all steps."""

import math
import struct
from typing import Any

from torch import Tensor

BLOCK, WARPS = 128, 2
"""Neurons and warps of a program: two neurons a thread, so that those of half precision fill a 32-bit load.

A program holds few neurons because only many programs in flight hide how long a step waits for memory.
"""


def start(kernel: Any, first: Tensor, *arguments: Tensor | int | None, **constants: Any) -> None:
    """Launch a kernel over all neurons of `first` `[time, ...]`; its size and precision are appended to `arguments`."""
    steps, width = len(first), math.prod(first.shape[1:])
    if steps and width:
        blocks = (-(-width // BLOCK),)
        # Without contraction of a * b + c: one rounding less would move a spike.
        kernel[blocks](*arguments, steps, width, **constants, BLOCK=BLOCK, num_warps=WARPS, enable_fp_fusion=False)


def bits(number: float) -> int:
    """Return the bits of a number: Triton takes a float in single precision, an integer as it is."""
    return struct.unpack("<q", struct.pack("<d", number))[0]
