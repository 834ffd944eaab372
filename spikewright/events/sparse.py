"""Sums at the places of sparse sequences, in types that cannot wrap."""

from typing import Any

import numpy as np

from spikewright.errors import InputError

Array = np.ndarray[Any, Any]
Entries = tuple[int, Array, Array]
"""Number of steps, places `step * size + position` that rise, int64, and the numbers there, none of them 0."""
_EXACT = 2**24
"""Largest whole number up to which single precision has all of them."""


def total(places: Array, size: int, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the places at which something is, rising, and what is there in sum, int64 or float64.

    Args:
        places: Places from 0 to `size - 1`, in any order, each as often as something falls on it.
        size: Number of places.
        weights: What falls there, whole numbers or float64.  Default: None, 1 each.
    """
    if size <= 16 * len(places) + 2**16:  # a table of all places is faster than sorting, and not much larger
        sums = np.bincount(places, weights, size)
        found = np.flatnonzero(sums)
        return found, _whole(sums[found], weights)
    if weights is None:
        ordered = np.sort(places.astype(np.int32) if size < 2**31 else places)  # half as wide, twice as fast
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        return ordered[first].astype(np.int64), np.diff(first, append=len(ordered))
    found, inverse = np.unique(places, return_inverse=True)
    sums = _whole(np.bincount(inverse, weights, len(found)), weights)
    here = sums != 0
    return found[here], sums[here]


def _whole(sums: Array, weights: Array | None) -> Array:
    """Return sums of whole numbers as such; float64, which `bincount` adds in, is exact below 2**53."""
    return sums.astype(np.int64) if weights is None or weights.dtype.kind == "i" else sums


def narrow(owner: str, counts: Array) -> Array:
    """Return whole numbers in the smallest type of `Sequences` that holds all of them exactly: they never wrap.

    Args:
        owner: Name of the mode, for the message.
        counts: int64, any number of them.

    Raises:
        InputError: A number is larger than single precision counts to.
    """
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    if 0 <= low and high < 2**8:
        return counts.astype(np.uint8)
    if -(2**15) <= low and high < 2**15:
        return counts.astype(np.int16)
    if max(-low, high) > _EXACT:
        raise InputError(
            f"{owner} counted {max(-low, high)} events of one pixel in one frame. Frames are float32 in a network, "
            f"which counts exactly up to {_EXACT}. Take shorter windows, or clip=."
        )
    return counts.astype(np.float32)
