"""The residual network of DSR: that of SLTT with neurons after the pooling and after the readout."""

from torch import Tensor, nn

from spikewright._util.ranges import check_sizes
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    dropout_layers,
    init_convolutions,
    output_layers,
    scaled,
)
from spikewright.models.resnet import spike_shortcut_stages


class PreActResNet18(nn.Module):
    """ResNet-18 of DSR for CIFAR: pre-activation blocks with spiking shortcuts, and a spiking readout.

    A 3 x 3 convolution; four stages of 64 to 512 channels, the last three at stride 2; batch normalisation, neurons,
    global average pooling, neurons, and a linear readout with batch normalisation and neurons, so that logits are
    firing rates. All layers but the first have spikes as inputs. Maps one time step `[batch, *shape]` to
    `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        blocks: Number of blocks of each stage, each from 1 to 1000; channels double from stage to stage.
            Default: (2, 2, 2, 2).
        width: Multiplier of all channel counts, in (0, 100]. Default: 1.0.
        dropout: Dropout probability before the second convolution of each block and before the readout, in [0, 1).
            Default: 0.0.
        spiking_readout: True adds batch normalisation and neurons after the readout. Default: True.

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

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
        check_arguments(
            "PreActResNet18", shape, classes, neuron, width=width, dropout=dropout, spiking_readout=spiking_readout
        )
        check_sizes("PreActResNet18", most=1000, blocks=blocks)
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
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.output(self.readout(self.leave(self.blocks(self.stem(x)))))
