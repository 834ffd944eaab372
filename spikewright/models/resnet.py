"""The residual network of SLTT: pre-activation blocks whose shortcuts carry spikes."""

from collections.abc import Sequence

from torch import Tensor, nn

from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_counts,
    dropout_layers,
    init_convolutions,
    scaled,
)


class SpikeShortcutBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, after a norm and a neuron that both of them share.

    With a the spikes of the first neuron, the output is `conv2(spikes(norm(conv1(a)))) + shortcut(a)`: unlike in the
    usual pre-activation block, the identity carries a and not the incoming stream.

    Args:
        fan_in: Channels of the input.
        fan_out: Channels of the output.
        stride: Step of the first convolution and of the shortcut.
        neuron: Makes the neurons of one layer.
        rate: Dropout before the second convolution.
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
        """Map [batch, fan_in, height, width] to [batch, fan_out, height / stride, width / stride]."""
        spikes = self.enter(x)
        return self.branch(spikes) + self.shortcut(spikes)


class ResNet18(nn.Module):
    """The ResNet-18 for CIFAR on which SLTT was measured: behind the first convolution, all synapses see spikes.

    A 3 x 3 convolution, four stages of 64 to 512 channels, the last three of which start at stride 2, then norm,
    neuron, pooling over the whole map (4 x 4 pixels at 32 x 32) and a linear readout.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        blocks: Number of blocks in each stage; the channels double from stage to stage.
        width: Multiplier of all channel counts.
        dropout: Share removed before the second convolution of each block and before the readout.

    Raises:
        ShapeError: `shape` is not three positive sizes.
        ConfigError: another argument does not describe a network.

    Reference:
        Meng et al., Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks, ICCV
        2023, arXiv 2302.14311.
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
        check_arguments("ResNet18", shape, classes, neuron)
        check_counts("ResNet18", blocks=blocks)
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.leave(self.blocks(self.stem(x))))


def spike_shortcut_stages(
    channels: int, blocks: Sequence[int], neuron: NeuronFactory, width: float, rate: float
) -> tuple[nn.Sequential, int]:
    """Stages of so many blocks each, of twice the channels and half the map from stage to stage.

    Returns:
        The blocks of all stages, from a map of `channels`, and the number of channels that leaves them.
    """
    stages: list[nn.Module] = []
    for stage, count in enumerate(blocks):
        size = scaled(64 * 2**stage, width)
        strides = (1 if stage == 0 else 2, *[1] * (count - 1))
        for stride, fan_in in zip(strides, (channels, *[size] * (count - 1))):
            stages.append(SpikeShortcutBlock(fan_in, size, stride, neuron, rate))
        channels = size
    return nn.Sequential(*stages), channels
