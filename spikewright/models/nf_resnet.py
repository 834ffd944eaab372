r"""The residual networks without normalisation layers that OTTT and SLTT trained on ImageNet.

A block adds little to the stream it receives, and divides it by its expected standard deviation before its first
neuron, so that no statistic of the batch is needed:

.. math::
    h &= \gamma \, s_1(x / \beta) \\
    y &= x + \alpha \, g \, f(h),

with s the spikes, f two or three standardised convolutions with neurons in between, and g a learned gain that starts
at 0. Where the shape changes, a standardised 1 x 1 convolution of h stands in place of x. The variance
:math:`\beta^2` is 1 at first, grows by :math:`\alpha^2` in each block, and starts again at 1 where the shape changes.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from spikewright.layers.scale import SPIKE_SCALE, Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d
from spikewright.models._parts import (
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    check_counts,
    dropout_layers,
    init_convolutions,
    scaled,
)

Stem = Literal["imagenet", "cifar"]


class NFBlock(nn.Module):
    """One residual block; the module's equations say what it computes.

    Args:
        fan_in: Channels of the input.
        middle: Channels between the convolutions.
        stride: Step of the 3 x 3 convolution that changes the size.
        neuron: Makes the neurons of one layer.
        bottleneck: 1 x 1, 3 x 3 and 1 x 1 convolutions to four times `middle`, instead of two of 3 x 3 to `middle`.
        alpha: Weight of the branch.
        beta: Expected standard deviation of the input.
        scale: Factor after each neuron.
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
        """Map [batch, fan_in, height, width] to [batch, fan_out, height / stride, width / stride]."""
        spikes = self.enter(x / self.beta)
        stream = x if self.shortcut is None else self.shortcut(spikes)
        return stream + self.branch(spikes) * (self.alpha * self.skipinit_gain)


class NFResNet(nn.Module):
    """A ResNet with standardised weights in place of normalisation layers; its stream is real-valued to the end.

    The stem is a standardised convolution without neurons: 7 x 7 at stride 2 and 3 x 3 average pooling at stride 2 for
    "imagenet", 3 x 3 at stride 1 for "cifar". Global average pooling and a readout that starts at zero end the network.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        blocks: Number of blocks in each stage; the channels double from stage to stage, starting at 64.
        bottleneck: Whether blocks are bottlenecks of three convolutions.
        stem: "imagenet" or "cifar".
        width: Multiplier of all channel counts.
        dropout: Share removed before the readout.
        alpha: Weight of each block's branch.
        scale: Factor after each neuron.

    Raises:
        ShapeError: `shape` is not three positive sizes.
        ConfigError: another argument does not describe a network.

    References:
        Xiao et al., Online Training Through Time for Spiking Neural Networks, NeurIPS 2022, arXiv 2210.04195;
        Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, ICLR
        2021, arXiv 2101.08692.
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
        check_arguments("NFResNet", shape, classes, neuron)
        check_counts("NFResNet", blocks=blocks)
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
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.pool(self.blocks(self.stem(x))))


def _stem(stem: Stem, fan_in: int, channels: int) -> nn.Module:
    if stem == "cifar":
        return ScaledWSConv2d(fan_in, channels, 3, padding=1)
    return nn.Sequential(ScaledWSConv2d(fan_in, channels, 7, 2, 3), nn.AvgPool2d(3, 2, 1))
