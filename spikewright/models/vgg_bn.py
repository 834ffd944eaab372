"""The VGG-11 with batch normalisation on which SLTT and DSR learn from event streams."""

from torch import Tensor, nn

from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_counts,
    check_halvings,
    dropout_layers,
    init_convolutions,
    init_readout,
    output_layers,
    scaled,
)

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11BN(nn.Module):
    """Eight 3 x 3 convolutions in five stages, each stage ended by 2 x 2 average pooling.

    Every convolution has a bias and is followed by batch normalisation, neurons, and dropout if there is any. The last
    map is brought to `pool_to` x `pool_to` pixels before the readout. That repeats pixels where the map is smaller, as
    in the published network: 48 x 48 images leave one pixel, of which the readout sees 49 copies.

    Args:
        shape: Channels, height and width of a sample; 32 x 32 or more.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        dropout: Share of neuron outputs removed.
        width: Multiplier of all channel counts.
        pool_to: Side of the map that the readout sees.
        spiking_readout: Whether batch normalisation and a layer of neurons follow the readout, so that outputs are
            spikes.

    Raises:
        ShapeError: `shape` is not three positive sizes, or too small for five poolings.
        ConfigError: another argument does not describe a network.

    References:
        Meng et al., Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks, ICCV
        2023, arXiv 2302.14311; Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by
        Differentiation on Spike Representation, CVPR 2022, arXiv 2205.00459.
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
        check_arguments("VGG11BN", shape, classes, neuron)
        check_counts("VGG11BN", pool_to=(pool_to,))
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.output(self.readout(self.pool(self.features(x))))


def vgg_dsr(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    dropout: float = 0.1,
    width: float = 1.0,
    pool_to: int = 7,
) -> VGG11BN:
    """The VGG-11 of DSR: batch normalisation and neurons follow the readout; the arguments are those of `VGG11BN`."""
    return VGG11BN(shape, classes, neuron, dropout=dropout, width=width, pool_to=pool_to, spiking_readout=True)


def _layer(fan_in: int, fan_out: int, neuron: NeuronFactory, rate: float) -> list[nn.Module]:
    return [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.BatchNorm2d(fan_out), neuron(), *dropout_layers(rate)]
