"""The normaliser-free residual networks of the usual depths."""

from spikewright.models._parts import NeuronFactory, Shape
from spikewright.models.nf_resnet import NFResNet, Stem


def nf_resnet18(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    stem: Stem = "imagenet",
    width: float = 1.0,
    dropout: float = 0.0,
) -> NFResNet:
    """Eight blocks of two convolutions; the arguments are those of `NFResNet`."""
    return NFResNet(shape, classes, neuron, blocks=(2, 2, 2, 2), stem=stem, width=width, dropout=dropout)


def nf_resnet34(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    stem: Stem = "imagenet",
    width: float = 1.0,
    dropout: float = 0.0,
) -> NFResNet:
    """Sixteen blocks of two convolutions; the arguments are those of `NFResNet`."""
    return NFResNet(shape, classes, neuron, blocks=(3, 4, 6, 3), stem=stem, width=width, dropout=dropout)


def nf_resnet50(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    stem: Stem = "imagenet",
    width: float = 1.0,
    dropout: float = 0.0,
) -> NFResNet:
    """Sixteen bottlenecks of three convolutions; the arguments are those of `NFResNet`."""
    return NFResNet(
        shape, classes, neuron, blocks=(3, 4, 6, 3), bottleneck=True, stem=stem, width=width, dropout=dropout
    )


def nf_resnet101(
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    stem: Stem = "imagenet",
    width: float = 1.0,
    dropout: float = 0.0,
) -> NFResNet:
    """Thirty-three bottlenecks of three convolutions; the arguments are those of `NFResNet`."""
    return NFResNet(
        shape, classes, neuron, blocks=(3, 4, 23, 3), bottleneck=True, stem=stem, width=width, dropout=dropout
    )
