"""Inputs of any length for the memory profile."""

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.ranges import MOST
from spikewright._util.returned import described
from spikewright.errors import ConfigError, ShapeError
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.temporal import is_static

FEW = 8
"""Steps of random input that are made; longer sequences repeat them."""


class Inputs:
    """A short input: random numbers of a shape, or an example.

    Args:
        net: Network whose parameters have the dtype and the device of random inputs.
        shape: Shape `(time, batch, *feature)`, or an example.
        batch_first: True if a shape is `(batch, time, *feature)`.  Default: False.

    Attributes:
        sizes: The shape, `(time, batch, *feature)`.
        x: The input, `[time, batch, *feature]`, which may be shorter.
    """

    def __init__(self, net: Network, shape: Any, batch_first: bool = False) -> None:
        self._net, self._given = net, isinstance(shape, Tensor)
        self.sizes = _sizes(shape)
        if batch_first:
            self.sizes = (self.sizes[1], self.sizes[0], *self.sizes[2:])
        if isinstance(shape, Tensor):
            self.x = shape.detach()
        else:
            like = next(net.parameters(), torch.empty(0))
            self.x = torch.rand(min(FEW, self.sizes[0]), *self.sizes[1:], dtype=like.dtype, device=like.device)

    def bytes_of(self, steps: int) -> int:
        """Return the bytes of an input; a static one is stored once.

        Args:
            steps: Number of steps.  At least 1.
        """
        return (1 if is_static(self.x) else steps) * math.prod(self.sizes[1:]) * self.x.itemsize

    def wiring(self) -> Wiring:
        """Return the wiring of the network for such an input."""
        try:
            return self._net.wiring(self.x)
        except ShapeError as error:
            if self._given:
                raise
            raise ShapeError(
                f"{error} plan was given a shape, and made an input of {self.x.dtype} of it. If the network takes "
                "another type, such as indices of an embedding, or bytes, give an example in place of the shape: "
                "plan(net, rule, x)."
            ) from error


def _sizes(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, Tensor) and shape.dim():
        return tuple(shape.shape)
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) < 2 or not all(1 <= size <= MOST for size in sizes) or any(isinstance(size, bool) for size in shape):
        given = shown(shape) if isinstance(shape, Sequence | Real) else described(shape)
        raise ConfigError(
            f"plan was given {given} for the shape of the input, which must be whole numbers from 1 to "
            "10**6, (time, batch, *feature). Give x.shape, or an example as a tensor, such as torch.as_tensor(x)."
        )
    return sizes
