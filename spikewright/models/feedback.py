"""The networks of IDE and SPIDE: a chain of spiking layers whose last one feeds back to the first."""

import math
from typing import Literal, get_args

from torch import Tensor, nn

from spikewright.errors import ConfigError, ShapeError
from spikewright.layers.feedback import Feedback
from spikewright.layers.restriction import restrict_frobenius, restrict_spectral
from spikewright.models._layers import Layer, Layers, Norm, read_layers
from spikewright.models._parts import (
    Filters,
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    dropout_layers,
    init_filters,
)

Restriction = Literal["spectral", "operator", "frobenius", "none"]


class FeedbackNet(nn.Module):
    """A chain of spiking layers; the spikes of the last also reach the first, one step later.

    A layer is a synapse with a bias, linear or a convolution that pads its border, then batch normalisation and average
    pooling if there are any, dropout, and neurons; the readout is plain. The feedback joins the current of the first
    neurons: a synapse of the same kind without bias, transposed where the map has shrunk on the way, and dropout.

    Args:
        shape: Channels, height and width of a sample.
        classes: Number of outputs.
        neuron: Makes the neurons of one layer.
        layers: Numbers of neurons for linear layers; for convolutions the papers' notation: "64C5" has 64 channels and
            5 x 5 kernels; an "s" behind it is stride 2, and a "p" 2 x 2 average pooling.
        back: Side of the kernel of the feedback, odd; linear layers have none.
        width: Multiplier of all channel and neuron counts.
        dropout: Share removed of every current, that of the feedback included.
        norm: "batch" for batch normalisation of all currents but the feedback's, or "none".
        feedback: Whether there is feedback. Without it, the same seed draws the same other weights.
        restriction: What of the feedback is kept below `limit`: the largest singular value of its weight as a matrix
            ("spectral", IDE), of the linear or convolutional map itself ("operator", up to several times as large, and
            what decides whether the loop contracts), the Frobenius norm of the weight ("frobenius", SPIDE), or "none".
        limit: The bound; IDE uses 1, SPIDE 2 on images and 10 on events.
        init: "unit" draws uniform weights of unit norm per output channel, "kaiming" normal ones (2 / fan_in).
        back_scale: Factor of the feedback weight at the start; SPIDE uses 0.1 for transposed convolutions.

    Raises:
        ShapeError: `shape` is not three positive sizes, or pooling leaves nothing of it or cuts what feedback meets.
        ConfigError: another argument does not describe a network.

    References:
        Xiao et al., Training Feedback Spiking Neural Networks by Implicit Differentiation on the Equilibrium State,
        NeurIPS 2021, arXiv 2109.14247; Xiao et al., SPIDE: A Purely Spike-based Method for Training Feedback Spiking
        Neural Networks, Neural Networks 2023, arXiv 2302.00232.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        neuron: NeuronFactory,
        *,
        layers: Layers = ("64C5s",),
        back: int = 5,
        width: float = 1.0,
        dropout: float = 0.0,
        norm: Norm = "batch",
        feedback: bool = True,
        restriction: Restriction = "spectral",
        limit: float = 1.0,
        init: Filters = "unit",
        back_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_arguments("FeedbackNet", shape, classes, neuron)
        check_choice("FeedbackNet", "norm", norm, get_args(Norm))
        check_choice("FeedbackNet", "restriction", restriction, get_args(Restriction))
        check_choice("FeedbackNet", "init", init, get_args(Filters))
        first, *others = read_layers("FeedbackNet", layers, width)
        start = last = first.map(shape)
        fan_in = shape[0] if first.kernel else math.prod(shape)
        flat = [] if first.kernel else [nn.Flatten()]
        self.enter = nn.Sequential(*flat, *first.current(fan_in, norm), *dropout_layers(dropout))
        self.feedback: nn.Module = nn.Identity()
        self.layers = nn.Sequential(neuron())
        for layer in others:
            self.layers.extend([*layer.current(last[0], norm), *dropout_layers(dropout), neuron()])
            last = layer.map(last)
        self.readout = nn.Linear(math.prod(last), classes)
        init_filters([*self.enter, *self.layers], init)
        if feedback:
            synapse = _synapse_back(start, last, others, back if first.kernel else 0)
            init_filters([synapse], init, back_scale)
            _restrict(synapse, restriction, limit, last[1:])
            self.feedback = Feedback(nn.Sequential(synapse, *dropout_layers(dropout)), source=self.layers[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map images [batch, channel, height, width] to outputs [batch, class]."""
        return self.readout(self.layers(self.feedback(self.enter(x))).flatten(1))


def _synapse_back(
    start: Shape, last: Shape, passed: list[Layer], kernel: int
) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
    """Lead from the map `last` to the map `start`, which has shrunk to it in the layers `passed`."""
    if not kernel:
        return nn.Linear(last[0], start[0], bias=False)
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"FeedbackNet was given back={kernel}, which has no centre pixel. Use an odd number.")
    stride = math.prod(layer.stride * layer.pool for layer in passed)
    if stride == 1:
        return nn.Conv2d(last[0], start[0], kernel, padding=kernel // 2, bias=False)
    missing = [side - 1 - (small - 1) * stride for side, small in zip(start[1:], last[1:])]
    if max(missing) >= stride:
        raise ShapeError(
            f"FeedbackNet was asked to feed a map of {last[1]} x {last[2]} pixels back to one of {start[1]} x "
            f"{start[2]}, but pooling cut its border, so that {stride} times as many pixels do not fill it. Use sides "
            f"that {stride} divides, or stride in place of pooling."
        )
    padding = (kernel // 2, kernel // 2)
    return nn.ConvTranspose2d(last[0], start[0], kernel, stride, padding, (missing[0], missing[1]), bias=False)


def _restrict(synapse: nn.Module, restriction: Restriction, limit: float, size: tuple[int, int]) -> None:
    if restriction in ("spectral", "operator"):
        whole = restriction == "operator" and not isinstance(synapse, nn.Linear)
        restrict_spectral(synapse, limit, size if whole else None)
    elif restriction == "frobenius":
        restrict_frobenius(synapse, limit)
