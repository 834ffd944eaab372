"""The VGG network of OTTT, with and without a feedback connection."""

from typing import Literal

from torch import Tensor, nn

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_numbers, check_row, check_sizes
from spikewright.errors import ConfigError
from spikewright.layers.feedback import Feedback
from spikewright.layers.scale import SPIKE_SCALE, Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_halvings,
    dropout_layers,
    init_convolutions,
    init_readout,
    scaled,
)
from spikewright.models._preset import preset

Layers = tuple[int | Literal["P"], ...]
PUBLISHED: Layers = (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512)


class VGG(nn.Module):
    """VGG of OTTT: weight-standardised 3 x 3 convolutions and average pooling, without batch normalisation.

    Each convolution has a bias and is followed by neurons, a constant factor and dropout; global average pooling and a
    linear readout end the network. With `feedback`, the last feature map is upsampled (nearest) to the size of the
    first, and a 3 x 3 convolution that starts at zero adds it to the current of the first neurons one time step later.
    Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        layers: Output channels of each convolution, each from 1 to 10**6, and "P" for 2 x 2 average pooling; the first
            is a convolution. Default: (64, 128, "P", 256, 256, "P", 512, 512, "P", 512, 512).
        dropout: Dropout probability of neuron outputs, in [0, 1). Default: 0.0.
        feedback: True adds the feedback connection. Default: False.
        scale: Factor after each neuron, any finite number. Default: 2.74.
        width: Multiplier of all channel counts, in (0, 100]. Default: 1.0.

    Raises:
        ShapeError: `shape` is not three positive integers, or too small for the pooling.
        ConfigError: Another argument is out of its range.

    Reference:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        layers: Layers = PUBLISHED,
        dropout: float = 0.0,
        feedback: bool = False,
        scale: float = SPIKE_SCALE,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_arguments("VGG", shape, classes, neuron, width=width, dropout=dropout, feedback=feedback)
        check_numbers("VGG", "(-inf, inf)", scale=scale)
        _check_layers(layers)
        check_halvings("VGG", shape, layers.count("P"))
        channels = [scaled(entry, width) for entry in layers if entry != "P"]
        self.features = _features(shape[0], layers, neuron, dropout, scale, width)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.readout = nn.Linear(channels[-1], classes)
        init_convolutions(self)
        init_readout(self.readout, std=0.01)
        if feedback:
            arrival = _feedback(self.features[-1], channels[-1], channels[0], shape[1:])
            self.features.insert(1, arrival)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.pool(self.features(x)))


def _features(
    channels: int, layers: Layers, neuron: NeuronFactory, rate: float, scale: float, width: float
) -> nn.Sequential:
    modules: list[nn.Module] = []
    for entry in layers:
        if entry == "P":
            modules.append(nn.AvgPool2d(2))
            continue
        fan_in, channels = channels, scaled(entry, width)
        modules += [ScaledWSConv2d(fan_in, channels, 3, padding=1), neuron(), Scale(scale), *dropout_layers(rate)]
    return nn.Sequential(*modules)


def _feedback(source: nn.Module, fan_in: int, fan_out: int, size: tuple[int, int]) -> Feedback:
    convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1)
    init_convolutions(convolution)
    nn.init.zeros_(convolution.weight)
    return Feedback(nn.Sequential(nn.Upsample(size=size, mode="nearest"), convolution), source)


def _check_layers(layers: Layers) -> None:
    check_row("VGG", "layers", layers, "(64, 'P', 128)")
    check_sizes("VGG", layers=[entry for entry in layers if entry != "P"])
    if not layers or layers[0] == "P":
        raise ConfigError(
            f"VGG was given layers={shown(layers)}, but its first layer has to be a convolution. Start with a number "
            "of channels; write 'P' for a pooling."
        )


vgg_f = preset(
    "vgg_f", VGG, "VGG of OTTT with feedback from the last feature map to the first convolution", {"feedback": True}
)
conv5 = preset(
    "conv5",
    VGG,
    "Five-layer network of OPZO: four convolutions and the readout",
    {},
    layers=(128, "P", 256, "P", 512, "P", 512),
)
conv9 = preset("conv9", VGG, "Nine-layer VGG of OTTT: eight convolutions and the readout", {})
