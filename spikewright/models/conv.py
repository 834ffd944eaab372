"""A small convolutional network, for images from 8 x 8 to 32 x 32."""

from typing import Literal

from torch import Tensor, nn

from spikewright._util.ranges import MOST, check_count, check_counts, check_sizes
from spikewright.errors import ShapeError
from spikewright.layers.scale import Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    check_kernel,
    init_convolutions,
    init_for_spikes,
    output_layers,
)

Norm = Literal["none", "sws", "batch"]
Init = Literal["spikes", "kaiming"]


class Conv(nn.Module):
    """Convolutional network: convolutions with neurons and average pooling, a hidden layer, and a linear readout.

    Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time. With the default
    initialisation, currents start with about unit variance, so that every layer fires.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        channels: Output channels of each convolution, each from 1 to 10**6. Default: (32, 64).
        hidden: Neurons of the fully connected layer, from 0 to 10**6; 0 leaves the layer out. Default: 256.
        kernel: Side of the kernels, odd, from 1 to 255; borders are padded. Default: 3.
        stride: Stride of the first convolution, from 1 to 10**6. Default: 1.
        pool: Side of the pooling windows, from 1 to 10**6; 1 is no pooling. Default: 2.
        bias: True gives convolutions and linear maps biases. Default: True.
        norm: "none"; "sws" (scaled weight standardisation in all layers but the readout, spikes times 2.74); or "batch"
            (batch normalisation of currents). Default: "none".
        spiking_readout: True adds neurons after the readout (with batch normalisation for `norm="batch"`), so that
            outputs are spikes, as in DSR. Default: False.
        init: "spikes" (currents of unit variance, zero bias) or "kaiming" (convolutions Kaiming-normal by fan out,
            readout normal with standard deviation 0.01, zero bias; suits `norm="batch"`). Default: "spikes".

    Raises:
        ShapeError: `shape` is not three positive integers, or too small for the strides and pooling.
        ConfigError: Another argument is out of its range.

    >>> from spikewright.models import Conv
    >>> import torch
    >>> import spikewright as sw
    >>> net = sw.Network(Conv((1, 8, 8), 10, sw.LIF, channels=(4, 8)))
    >>> net(torch.rand(6, 2, 1, 8, 8)).shape  # [time, batch, class]
    torch.Size([6, 2, 10])
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        channels: tuple[int, ...] = (32, 64),
        hidden: int = 256,
        kernel: int = 3,
        stride: int = 1,
        pool: int = 2,
        bias: bool = True,
        norm: Norm = "none",
        spiking_readout: bool = False,
        init: Init = "spikes",
    ) -> None:
        super().__init__()
        check_arguments("Conv", shape, classes, neuron, bias=bias, spiking_readout=spiking_readout)
        check_choice("Conv", "norm", norm, ("none", "sws", "batch"))
        check_choice("Conv", "init", init, ("spikes", "kaiming"))
        check_sizes("Conv", channels=channels)
        check_counts("Conv", most=MOST, stride=stride, pool=pool)
        check_count("Conv", "hidden", hidden, "hidden counts neurons; 0 leaves their layer out", 0, MOST)
        check_kernel("Conv", "kernel", kernel)
        convolution, linear = (ScaledWSConv2d, ScaledWSLinear) if norm == "sws" else (nn.Conv2d, nn.Linear)
        layers: list[nn.Module] = []
        sizes = (shape[0], *channels)
        for fan_in, fan_out, step in zip(sizes, channels, (stride, *[1] * len(channels))):
            layers.append(convolution(fan_in, fan_out, kernel, step, kernel // 2, bias=bias))
            layers += [*_fire(neuron, norm, nn.BatchNorm2d, fan_out), nn.AvgPool2d(pool)]
        flat = sizes[-1] * _pixels(shape, stride, pool ** len(channels))
        layers.append(nn.Flatten())
        if hidden:
            layers += [linear(flat, hidden, bias), *_fire(neuron, norm, nn.BatchNorm1d, hidden)]
        self.features = nn.Sequential(*layers)
        self.readout = nn.Linear(hidden or flat, classes, bias)
        self.output = output_layers(classes, neuron, spiking=spiking_readout, norm=norm == "batch")
        init_for_spikes(self.features)
        if init == "kaiming":
            init_convolutions(self)
            nn.init.normal_(self.readout.weight, std=0.01)
            if self.readout.bias is not None:
                nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.output(self.readout(self.features(x)))


def _fire(
    neuron: NeuronFactory, norm: Norm, batch_norm: type[nn.BatchNorm1d | nn.BatchNorm2d], size: int
) -> list[nn.Module]:
    if norm == "sws":
        return [neuron(), Scale()]
    return [batch_norm(size), neuron()] if norm == "batch" else [neuron()]


def _pixels(shape: Shape, stride: int, pooling: int) -> int:
    height, width = (((side - 1) // stride + 1) // pooling for side in shape[1:])
    if not height * width:
        raise ShapeError(
            f"Conv reduces its image by {stride * pooling}, but {shape[1]} x {shape[2]} pixels leave nothing. Use "
            "fewer entries of channels, a smaller pool or stride, or larger images."
        )
    return height * width
