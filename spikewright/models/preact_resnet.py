"""The residual network of DSR: that of SLTT, with neurons behind the pooling and behind the readout."""

from torch import Tensor, nn

from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_counts,
    dropout_layers,
    init_convolutions,
    output_layers,
    scaled,
)
from spikewright.models.resnet import spike_shortcut_stages


class PreActResNet18(nn.Module):
    """The ResNet-18 for CIFAR on which DSR was measured: all synapses but the first see spikes, and outputs are spikes.

    A 3 x 3 convolution, four stages of 64 to 512 channels, the last three of which start at stride 2, then norm,
    neuron, pooling over the whole map (4 x 4 pixels at 32 x 32), neuron, and a linear readout behind which norm and
    neuron come once more: the logits are the rates of the last layer of neurons.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        blocks: Number of blocks in each stage; the channels double from stage to stage.
        width: Multiplier of all channel counts.
        dropout: Share removed before the second convolution of each block and before the readout.
        spiking_readout: Whether norm and neurons follow the readout; otherwise it is plain.

    Raises:
        ShapeError: `shape` is not three positive sizes.
        ConfigError: another argument does not describe a network.

    Reference:
        Meng et al., Training High-Performance Low-Latency Spiking Neural Networks by Differentiation on Spike
        Representation, CVPR 2022, arXiv 2205.00459.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        width: float = 1.0,
        dropout: float = 0.0,
        spiking_readout: bool = True,
    ) -> None:
        super().__init__()
        check_arguments("PreActResNet18", shape, classes, neuron)
        check_counts("PreActResNet18", blocks=blocks)
        channels = scaled(64, width)
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)
        self.blocks, channels = spike_shortcut_stages(channels, blocks, neuron, width, dropout)
        self.leave = nn.Sequential(
            nn.BatchNorm2d(channels),
            neuron(),
            nn.AdaptiveAvgPool2d(1),
            neuron(),
            nn.Flatten(),
            *dropout_layers(dropout),
        )
        self.readout = nn.Linear(channels, classes)
        self.output = output_layers(classes, neuron, spiking=spiking_readout)
        init_convolutions(self, zero_bias=False)
        nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.output(self.readout(self.leave(self.blocks(self.stem(x)))))
