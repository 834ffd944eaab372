"""Layers in the notation of the IDE and SPIDE papers: "64C5s" is a 5 x 5 convolution with 64 channels at stride 2."""

import re
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_row, check_sizes
from spikewright.errors import ConfigError, ShapeError
from spikewright.models._parts import Shape, scaled

Layers = tuple[int | str, ...]
Norm = Literal["batch", "none"]

_CONVOLUTION = re.compile(r"([1-9]\d*)C(\d*[13579])(s?)(p?)")


@dataclass(frozen=True)
class Layer:
    """The synaptic part of a layer: a linear map or a convolution, with pooling.

    Attributes:
        size: Output channels, or neurons of a linear layer, at least 1.
        kernel: Side of the kernel, odd. Default: 0, a linear map.
        stride: Stride of the convolution, at least 1; the border is padded. Default: 1.
        pool: Side of the average pooling after it, at least 1. Default: 1, no pooling.
    """

    size: int
    kernel: int = 0
    stride: int = 1
    pool: int = 1

    def current(self, fan_in: int, norm: Norm) -> list[nn.Module]:
        """Return the modules of the layer: linear map or convolution, batch normalisation, pooling."""
        if not self.kernel:
            return [nn.Linear(fan_in, self.size), *([nn.BatchNorm1d(self.size)] if norm == "batch" else [])]
        convolution = nn.Conv2d(fan_in, self.size, self.kernel, self.stride, self.kernel // 2)
        normalised = [nn.BatchNorm2d(self.size)] if norm == "batch" else []
        return [convolution, *normalised, *([nn.AvgPool2d(self.pool)] if self.pool > 1 else [])]

    def map(self, before: Shape) -> Shape:
        """Return the shape of the output for an input of shape `before`.

        Raises:
            ShapeError: Pooling leaves nothing.
        """
        if not self.kernel:
            return self.size, 1, 1
        height, width = (((side - 1) // self.stride + 1) // self.pool for side in before[1:])
        if not height * width:
            raise ShapeError(
                f"A convolution of stride {self.stride} with {self.pool} x {self.pool} pooling was asked for on a map "
                f"of {before[1]} x {before[2]} pixels, which leaves nothing. Use less pooling, or larger images."
            )
        return self.size, height, width


def read_layers(model: str, layers: Layers, width: float) -> list[Layer]:
    """Return the layers of a network: linear ones from numbers of neurons, or convolutions from strings.

    Args:
        model: Name of the model, for messages.
        layers: Numbers of neurons, or strings such as "64C5"; a trailing "s" is stride 2, a "p" is 2 x 2 average
            pooling.
        width: Multiplier of all sizes, in (0, 100].

    Raises:
        ConfigError: There are no layers, one cannot be read, or both kinds are mixed.

    >>> read_layers("Net", ("64C5s",), 0.5)
    [Layer(size=32, kernel=5, stride=2, pool=1)]
    """
    check_row(model, "layers", layers, "('64C5', '64C5')")
    neurons = [layer for layer in layers if isinstance(layer, int)]
    if neurons and len(neurons) == len(layers):
        check_sizes(model, layers=neurons)
        return [Layer(scaled(size, width)) for size in neurons]
    found = [_CONVOLUTION.fullmatch(layer) if isinstance(layer, str) else None for layer in layers]
    if not layers or None in found:
        wrong = f"{shown(layers[found.index(None)])} is no valid layer" if layers else "a network needs layers"
        raise ConfigError(
            f"{model} was given layers={shown(layers)}, but {wrong}. Use convolutions with odd kernels, such as "
            "'64C5', '64C5s' at stride 2 or '64C5p' with pooling; or numbers of neurons, and nothing else."
        )
    read = [match.groups() for match in found if match]
    return [
        Layer(scaled(int(size), width), int(kernel), 2 if stride else 1, 2 if pool else 1)
        for size, kernel, stride, pool in read
    ]
