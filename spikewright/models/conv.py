"""A small convolutional network, for images from 8 x 8 to 32 x 32."""

from typing import Literal

from torch import Tensor, nn

from spikewright.errors import ConfigError, ShapeError
from spikewright.layers.scale import Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    check_counts,
    init_convolutions,
    init_for_spikes,
    output_layers,
)

Norm = Literal["none", "sws", "batch"]
Init = Literal["spikes", "kaiming"]


class Conv(nn.Module):
    """Convolution, neuron and average pooling per entry of `channels`, a hidden layer or none, a linear readout.

    Pooling is by averages, since the maximum of a trace is not the trace of the winning spike. `kernel=5` is LeNet's
    choice. Unless told otherwise, weights start such that currents have about unit variance, so that every layer fires.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        channels: Output channels of each convolution.
        hidden: Number of neurons in the fully connected layer; 0 leaves it out, and the readout sees the maps.
        kernel: Side of the kernels, odd; the border is padded, so that only `stride` and `pool` shrink the image.
        stride: Step of the first convolution; 2 makes the network several times faster, at some cost in accuracy.
        pool: Side of the averaging windows; 1 is no pooling.
        bias: Whether convolutions and linear maps have biases.
        norm: "none"; "sws" for scaled weight standardisation everywhere but in the readout, with spikes scaled by
            2.74; "batch" for batch normalisation of the currents.
        spiking_readout: Whether a layer of neurons follows the readout (behind batch normalisation with
            `norm="batch"`), so that outputs are spikes, as DSR learns.
        init: "spikes", such that currents start with unit variance, or "kaiming": convolutions Kaiming-normal by their
            fan out, as suits `norm="batch"`, and the readout with a standard deviation of 0.01; biases are zero.

    Raises:
        ShapeError: `shape` is not three positive sizes, or too small for this much pooling.
        ConfigError: another argument does not describe a network.
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
        check_arguments("Conv", shape, classes, neuron)
        check_choice("Conv", "norm", norm, ("none", "sws", "batch"))
        check_choice("Conv", "init", init, ("spikes", "kaiming"))
        check_counts("Conv", channels=channels, hidden=(hidden,) if hidden else (), stride=(stride,), pool=(pool,))
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"Conv was given kernel={kernel}, which has no centre pixel. Use an odd number.")
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
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
            "fewer channels entries, a smaller pool or stride, or larger images."
        )
    return height * width
