"""The residual network of SLTT: pre-activation blocks whose shortcuts carry spikes."""

from collections.abc import Sequence

from torch import Tensor, nn

from spikewright._util.ranges import check_sizes
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    dropout_layers,
    init_convolutions,
    scaled,
)


class SpikeShortcutBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions and a shortcut, both after the same batch normalisation and neurons.

    With a the spikes of the first neurons, the output is `conv2(spikes(norm(conv1(a)))) + shortcut(a)`. In the usual
    pre-activation block the identity carries the input instead of a.

    Args:
        fan_in: Channels of the input, at least 1.
        fan_out: Channels of the output, at least 1.
        stride: Stride of the first convolution and of the shortcut, at least 1.
        neuron: Function without arguments that returns a new neuron module.
        rate: Dropout probability before the second convolution, in [0, 1).
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, neuron: NeuronFactory, rate: float) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(fan_in), neuron())
        self.branch = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, padding=1),
            nn.BatchNorm2d(fan_out),
            neuron(),
            *dropout_layers(rate),
            nn.Conv2d(fan_out, fan_out, 3, padding=1),
        )
        same = stride == 1 and fan_in == fan_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(fan_in, fan_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[batch, fan_out, height / stride, width / stride]` for `[batch, fan_in, height, width]`."""
        spikes = self.enter(x)
        return self.branch(spikes) + self.shortcut(spikes)


class ResNet18(nn.Module):
    """ResNet-18 of SLTT for CIFAR: pre-activation blocks whose shortcuts carry spikes.

    A 3 x 3 convolution; four stages of 64 to 512 channels, the last three at stride 2; batch normalisation, neurons,
    global average pooling and a linear readout. All layers but the first have spikes as inputs. Maps one time step
    `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

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

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

    Reference:
        Meng et al., Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks, ICCV 2023,
        arXiv 2302.14311.
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
    ) -> None:
        super().__init__()
        check_arguments("ResNet18", shape, classes, neuron, width=width, dropout=dropout)
        check_sizes("ResNet18", most=1000, blocks=blocks)
        channels = scaled(64, width)
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)
        self.blocks, channels = spike_shortcut_stages(channels, blocks, neuron, width, dropout)
        self.leave = nn.Sequential(
            nn.BatchNorm2d(channels), neuron(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout_layers(dropout)
        )
        self.readout = nn.Linear(channels, classes)
        init_convolutions(self, zero_bias=False)
        nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.leave(self.blocks(self.stem(x))))


def spike_shortcut_stages(
    channels: int, blocks: Sequence[int], neuron: NeuronFactory, width: float, rate: float
) -> tuple[nn.Sequential, int]:
    """Return stages of blocks, with twice the channels and half the size from stage to stage.

    Returns:
        The blocks of all stages, and their number of output channels.
    """
    stages: list[nn.Module] = []
    for stage, count in enumerate(blocks):
        size = scaled(64 * 2**stage, width)
        strides = (1 if stage == 0 else 2, *[1] * (count - 1))
        for stride, fan_in in zip(strides, (channels, *[size] * (count - 1))):
            stages.append(SpikeShortcutBlock(fan_in, size, stride, neuron, rate))
        channels = size
    return nn.Sequential(*stages), channels
