"""The residual network of HLOP: narrow pre-activation blocks around a real-valued residual stream."""

from typing import Literal

from torch import Tensor, nn

from spikewright._util.ranges import check_sizes
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    init_convolutions,
    scaled,
)

Stem = Literal["cifar", "miniimagenet"]


class StreamBlock(nn.Module):
    """Pre-activation residual block: two 3 x 3 convolutions after batch normalisation and neurons, added to the input.

    With a the spikes of the first neurons, the output is `x + conv2(spikes(norm(conv1(a))))`. Where the shape changes,
    a 1 x 1 convolution of a replaces x. Convolutions have no biases.

    Args:
        fan_in: Channels of the input, at least 1.
        fan_out: Channels of the output, at least 1.
        stride: Stride of the first convolution and of the shortcut, at least 1.
        neuron: Function without arguments that returns a new neuron module.
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
        """Return `[batch, fan_out, height / stride, width / stride]` for `[batch, fan_in, height, width]`."""
        spikes = self.enter(x)
        stream = x if self.shortcut is None else self.shortcut(spikes)
        return stream + self.branch(spikes)


class StreamResNet18(nn.Module):
    """ResNet-18 of HLOP: narrow pre-activation blocks around a real-valued residual stream.

    A convolution; four stages of 20 to 160 channels, the last three at stride 2; batch normalisation, neurons, global
    average pooling and a linear readout. All layers but the first have spikes as inputs. The layers are `stem`,
    `blocks.0.branch.0`, `blocks.0.branch.3` and so on, `blocks.2.shortcut`, `blocks.4.shortcut`, `blocks.6.shortcut`
    and `readout`. Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        blocks: Number of blocks of each stage, each from 1 to 1000; channels double from stage to stage.
            Default: (2, 2, 2, 2).
        width: Multiplier of all channel counts, in (0, 100]; 1 gives 20 channels in the first stage. Default: 1.0.
        stem: First convolution: "cifar" (3 x 3) or "miniimagenet" (5 x 5 at stride 2). Default: "cifar".
        bias: True gives the readout a bias; convolutions have none. Default: True.

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

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
        check_arguments("StreamResNet18", shape, classes, neuron, width=width, bias=bias)
        check_sizes("StreamResNet18", most=1000, blocks=blocks)
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
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.leave(self.blocks(self.stem(x))))
