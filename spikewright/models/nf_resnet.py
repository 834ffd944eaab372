"""Residual networks without normalisation layers, as trained with OTTT and SLTT on ImageNet."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from spikewright._util.ranges import check_numbers, check_sizes
from spikewright.layers.scale import SPIKE_SCALE, Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    dropout_layers,
    init_convolutions,
    scaled,
)

Stem = Literal["imagenet", "cifar"]


class NFBlock(nn.Module):
    r"""Residual block without normalisation layers.

    .. math::
        h &= \gamma \, s(x / \beta) \\
        y &= x + \alpha \, g \, f(h),

    with s the spikes of the first neurons, f two or three standardised convolutions with neurons between them, and g a
    learned gain that starts at 0. Where the shape changes, a standardised 1 x 1 convolution of h replaces x. The input
    variance :math:`\beta^2` is 1 in the first block of each stage and grows by :math:`\alpha^2` per block, so no batch
    statistics are needed.

    Args:
        fan_in: Channels of the input, at least 1.
        middle: Channels between the convolutions, at least 1.
        stride: Stride of the 3 x 3 convolution that changes the size, at least 1.
        neuron: Function without arguments that returns a new neuron module.
        bottleneck: True uses 1 x 1, 3 x 3 and 1 x 1 convolutions to `4 * middle` channels, False two of 3 x 3 to
            `middle`.
        alpha: Weight :math:`\alpha` of the branch.
        beta: Expected standard deviation :math:`\beta` of the input, > 0.
        scale: Factor :math:`\gamma` after each neuron.
    """

    def __init__(
        self,
        fan_in: int,
        middle: int,
        stride: int,
        neuron: NeuronFactory,
        *,
        bottleneck: bool,
        alpha: float,
        beta: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.fan_out = 4 * middle if bottleneck else middle
        self.alpha, self.beta = alpha, beta
        first, second = ScaledWSConv2d(fan_in, middle, 3, stride, 1), ScaledWSConv2d(middle, middle, 3, 1, 1)
        if bottleneck:
            first, second = ScaledWSConv2d(fan_in, middle, 1), ScaledWSConv2d(middle, middle, 3, stride, 1)
        self.enter = nn.Sequential(neuron(), Scale(scale))
        self.branch = nn.Sequential(first, neuron(), Scale(scale), second)
        if bottleneck:
            self.branch.extend([neuron(), Scale(scale), ScaledWSConv2d(middle, self.fan_out, 1)])
        same = stride == 1 and fan_in == self.fan_out
        self.shortcut = None if same else ScaledWSConv2d(fan_in, self.fan_out, 1, stride)
        self.skipinit_gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[batch, fan_out, height / stride, width / stride]` for `[batch, fan_in, height, width]`."""
        spikes = self.enter(x / self.beta)
        stream = x if self.shortcut is None else self.shortcut(spikes)
        return stream + self.branch(spikes) * (self.alpha * self.skipinit_gain)


class NFResNet(nn.Module):
    r"""Normaliser-free ResNet: scaled weight standardisation instead of normalisation layers.

    The residual stream is real-valued. A block computes :math:`x + \alpha\, g\, f(\gamma\, s(x / \beta))` with spikes
    s, two or three standardised convolutions f with neurons between them, and a gain g that starts at 0. The stem is a
    standardised convolution without neurons; global average pooling and a readout that starts at zero end the network.
    Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        blocks: Number of blocks of each stage, each from 1 to 1000; channels double from stage to stage, starting
            at 64. Default: (2, 2, 2, 2).
        bottleneck: True uses bottleneck blocks of three convolutions, False blocks of two. Default: False.
        stem: "imagenet" (7 x 7 at stride 2, and 3 x 3 average pooling at stride 2) or "cifar" (3 x 3 at stride 1).
            Default: "imagenet".
        width: Multiplier of all channel counts, in (0, 100]. Default: 1.0.
        dropout: Dropout probability before the readout, in [0, 1). Default: 0.0.
        alpha: Weight :math:`\alpha` of each block's branch, any finite number. Default: 0.2.
        scale: Factor :math:`\gamma` after each neuron, any finite number. Default: 2.74.

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range.

    Reference:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195; Brock et
        al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR 2021,
        arXiv 2101.08692.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        bottleneck: bool = False,
        stem: Stem = "imagenet",
        width: float = 1.0,
        dropout: float = 0.0,
        alpha: float = 0.2,
        scale: float = SPIKE_SCALE,
    ) -> None:
        super().__init__()
        check_arguments("NFResNet", shape, classes, neuron, width=width, dropout=dropout, bottleneck=bottleneck)
        check_numbers("NFResNet", "(-inf, inf)", alpha=alpha, scale=scale)
        check_sizes("NFResNet", most=1000, blocks=blocks)
        check_choice("NFResNet", "stem", stem, ("imagenet", "cifar"))
        channels, variance = scaled(64, width), 1.0
        self.stem = _stem(stem, shape[0], channels)
        self.blocks = nn.Sequential()
        for stage, count in enumerate(blocks):
            for index in range(count):
                middle, stride = scaled(64 * 2**stage, width), 2 if stage and not index else 1
                beta = math.sqrt(variance)
                block = NFBlock(
                    channels, middle, stride, neuron, bottleneck=bottleneck, alpha=alpha, beta=beta, scale=scale
                )
                self.blocks.append(block)
                channels = block.fan_out
                variance = alpha**2 + (variance if block.shortcut is None else 1.0)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *dropout_layers(dropout))
        self.readout = nn.Linear(channels, classes)
        init_convolutions(self)
        nn.init.zeros_(self.readout.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.pool(self.blocks(self.stem(x))))


def _stem(stem: Stem, fan_in: int, channels: int) -> nn.Module:
    if stem == "cifar":
        return ScaledWSConv2d(fan_in, channels, 3, padding=1)
    return nn.Sequential(ScaledWSConv2d(fan_in, channels, 7, 2, 3), nn.AvgPool2d(3, 2, 1))
