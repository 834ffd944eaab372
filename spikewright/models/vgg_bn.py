"""The VGG-11 with batch normalisation of SLTT and DSR, for event streams."""

from torch import Tensor, nn

from spikewright._util.ranges import check_counts
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_halvings,
    dropout_layers,
    init_convolutions,
    init_readout,
    output_layers,
    scaled,
)
from spikewright.models._preset import preset

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11BN(nn.Module):
    """VGG-11 with batch normalisation of SLTT and DSR: eight 3 x 3 convolutions in five stages.

    Every convolution has a bias and is followed by batch normalisation, neurons and dropout, every stage by 2 x 2
    average pooling. The last map is pooled adaptively to `pool_to` x `pool_to` pixels before the readout, which repeats
    pixels of smaller maps, as in the published network: images of 48 x 48 leave one pixel, of which the readout sees 49
    copies. Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        dropout: Dropout probability of neuron outputs, in [0, 1). Default: 0.0.
        width: Multiplier of all channel counts, in (0, 100]. Default: 1.0.
        pool_to: Side of the map before the readout, from 1 to 255. Default: 7.
        spiking_readout: True adds batch normalisation and neurons after the readout, so that outputs are spikes.
            Default: False.

    Raises:
        ShapeError: `shape` is not three positive integers, or smaller than 32 x 32 pixels.
        ConfigError: Another argument is out of its range.

    Reference:
        Meng et al., Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks, ICCV 2023,
        arXiv 2302.14311; Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation
        on Spike Representation, CVPR 2022, arXiv 2205.00459.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        dropout: float = 0.0,
        width: float = 1.0,
        pool_to: int = 7,
        spiking_readout: bool = False,
    ) -> None:
        super().__init__()
        check_arguments(
            "VGG11BN", shape, classes, neuron, width=width, dropout=dropout, spiking_readout=spiking_readout
        )
        check_counts("VGG11BN", most=255, pool_to=pool_to)
        check_halvings("VGG11BN", shape, len(STAGES))
        channels = shape[0]
        features: list[nn.Module] = []
        for stage in STAGES:
            for size in (scaled(size, width) for size in stage):
                features += _layer(channels, size, neuron, dropout)
                channels = size
            features.append(nn.AvgPool2d(2))
        self.features = nn.Sequential(*features)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(pool_to), nn.Flatten())
        self.readout = nn.Linear(channels * pool_to**2, classes)
        self.output = output_layers(classes, neuron, spiking=spiking_readout)
        init_convolutions(self)
        init_readout(self.readout, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.output(self.readout(self.pool(self.features(x))))


def _layer(fan_in: int, fan_out: int, neuron: NeuronFactory, rate: float) -> list[nn.Module]:
    return [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.BatchNorm2d(fan_out), neuron(), *dropout_layers(rate)]


vgg_dsr = preset(
    "vgg_dsr",
    VGG11BN,
    "VGG-11 of DSR, with batch normalisation and neurons after the readout",
    {"spiking_readout": True},
    dropout=0.1,
)
