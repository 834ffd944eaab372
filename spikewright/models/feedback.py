"""The feedback networks of IDE and SPIDE: a chain of spiking layers whose last layer feeds back to the first."""

import math
from typing import Literal, get_args

from torch import Tensor, nn

from spikewright._util.ranges import check_numbers
from spikewright.errors import ShapeError
from spikewright.layers.feedback import Feedback
from spikewright.layers.restriction import restrict_frobenius, restrict_spectral
from spikewright.models._layers import Layer, Layers, Norm, read_layers
from spikewright.models._parts import (
    Filters,
    NeuronFactory,
    Shape,
    check_arguments,
    check_choice,
    check_kernel,
    dropout_layers,
    init_filters,
)

Restriction = Literal["spectral", "operator", "frobenius", "none"]


class FeedbackNet(nn.Module):
    """Chain of spiking layers with a feedback connection from the last layer to the first, one time step later.

    A layer is a linear map or padded convolution with bias, optional batch normalisation and average pooling, dropout,
    and neurons. The feedback adds to the current of the first neurons: a linear map, convolution or (after strides or
    pooling) transposed convolution without bias, and dropout. Maps one time step `[batch, *shape]` to
    `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        layers: Numbers of neurons of linear layers; or strings for convolutions: "64C5" has 64 channels and 5 x 5
            kernels, a trailing "s" is stride 2, a "p" is 2 x 2 average pooling. Default: ("64C5s",).
        back: Side of the feedback kernel, odd, from 1 to 255; not used for linear layers. Default: 5.
        width: Multiplier of all channel and neuron counts, in (0, 100]. Default: 1.0.
        dropout: Dropout probability of every current, that of the feedback included, in [0, 1). Default: 0.0.
        norm: "batch" (batch normalisation of all currents but the feedback) or "none". Default: "batch".
        feedback: True adds the feedback; without it, the same seed gives the same other weights. Default: True.
        restriction: Norm of the feedback that is kept below `limit`: "spectral" (largest singular value of the weight
            as a matrix, IDE), "operator" (that of the linear or convolutional map, which decides whether the iteration
            contracts), "frobenius" (Frobenius norm of the weight, SPIDE) or "none". Default: "spectral".
        limit: Upper bound of that norm, > 0; SPIDE uses 2 on images and 10 on events. Default: 1.0.
        init: "unit" (uniform weights of unit norm per output channel) or "kaiming" (normal, variance 2 / fan_in).
            Default: "unit".
        back_scale: Factor of the initial feedback weight, any finite number; SPIDE uses 0.1 for transposed
            convolutions. Default: 1.0.

    Raises:
        ShapeError: `shape` is not three positive integers, pooling leaves nothing, or the feedback cannot restore the
            size of the first map.
        ConfigError: Another argument is out of its range.

    Reference:
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
        check_arguments("FeedbackNet", shape, classes, neuron, width=width, dropout=dropout, feedback=feedback)
        check_numbers("FeedbackNet", "(0, inf)", limit=limit)
        check_numbers("FeedbackNet", "(-inf, inf)", back_scale=back_scale)
        check_kernel("FeedbackNet", "back", back)
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
        """Return outputs `[batch, class]` for images `x` of shape `[batch, channel, height, width]`."""
        return self.readout(self.layers(self.feedback(self.enter(x))).flatten(1))


def _synapse_back(
    start: Shape, last: Shape, passed: list[Layer], kernel: int
) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
    """Return the layer that maps the shape `last` back to `start`, across the strides of the layers `passed`."""
    if not kernel:
        return nn.Linear(last[0], start[0], bias=False)
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
