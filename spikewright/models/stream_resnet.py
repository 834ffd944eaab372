"""The residual network of HLOP: pre-activation blocks, narrow ones, around a stream that stays real-valued."""

from typing import Literal

from torch import Tensor, nn

from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    check_counts,
    init_convolutions,
    scaled,
)

Stem = Literal["cifar", "miniimagenet"]


class StreamBlock(nn.Module):
    """Two 3 x 3 convolutions beside the stream, after a norm and a neuron.

    With a the spikes of the first neuron, the output is `x + conv2(spikes(norm(conv1(a))))`: unlike in `ResNet18`, the
    identity carries the incoming stream and not a. Where the shape changes, a 1 x 1 convolution of a stands in place of
    x. Nothing has a bias but the norms.

    Args:
        fan_in: Channels of the input.
        fan_out: Channels of the output.
        stride: Step of the first convolution and of the shortcut.
        neuron: Makes the neurons of one layer.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, neuron: NeuronFactory) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(fan_in), neuron())
        self.branch = nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out),
            neuron(),
            nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False),
        )
        same = stride == 1 and fan_in == fan_out
        self.shortcut = None if same else nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, fan_in, height, width] to [batch, fan_out, height / stride, width / stride]."""
        spikes = self.enter(x)
        stream = x if self.shortcut is None else self.shortcut(spikes)
        return stream + self.branch(spikes)


class StreamResNet18(nn.Module):
    """The ResNet-18 on which HLOP was measured: behind the first convolution, all synapses see spikes.

    A convolution, four stages of 20 to 160 channels, the last three of which start at stride 2, then norm, neuron,
    pooling over the whole map and a linear readout. The synapses are `stem`, `blocks.0.branch.0`, `blocks.0.branch.3`
    and so on, `blocks.2.shortcut`, `blocks.4.shortcut`, `blocks.6.shortcut` and `readout`.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        blocks: Number of blocks in each stage; the channels double from stage to stage.
        width: Multiplier of all channel counts; 1 is 20 channels in the first stage.
        stem: The first convolution: 3 x 3 for "cifar", 5 x 5 at stride 2 for "miniimagenet".
        bias: Whether the readout has a bias; convolutions have none.

    Raises:
        ShapeError: `shape` is not three positive sizes.
        ConfigError: another argument does not describe a network.

    Reference:
        Xiao et al., Hebbian Learning based Orthogonal Projection for Continual Learning of Spiking Neural Networks,
        ICLR 2024, arXiv 2402.11984.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        width: float = 1.0,
        stem: Stem = "cifar",
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_arguments("StreamResNet18", shape, classes, neuron)
        check_counts("StreamResNet18", blocks=blocks)
        check_choice("StreamResNet18", "stem", stem, ("cifar", "miniimagenet"))
        channels, (kernel, step) = scaled(20, width), (3, 1) if stem == "cifar" else (5, 2)
        self.stem = nn.Conv2d(shape[0], channels, kernel, step, kernel // 2, bias=False)
        self.blocks = nn.Sequential()
        for stage, count in enumerate(blocks):
            for index in range(count):
                size, stride = scaled(20 * 2**stage, width), 2 if stage and not index else 1
                self.blocks.append(StreamBlock(channels, size, stride, neuron))
                channels = size
        self.leave = nn.Sequential(nn.BatchNorm2d(channels), neuron(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.readout = nn.Linear(channels, classes, bias)
        init_convolutions(self)
        nn.init.normal_(self.readout.weight, std=0.01)
        if bias:
            nn.init.zeros_(self.readout.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.leave(self.blocks(self.stem(x))))
