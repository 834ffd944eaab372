"""Shared parts of the models: argument checks, widths, dropout and initialisation."""

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Literal

import torch
from torch import nn

from spikewright._util.arguments import shown
from spikewright._util.ranges import MOST, check_count, check_flag, check_within
from spikewright.errors import ConfigError, ShapeError, nearest
from spikewright.layers.scale import SPIKE_SCALE

Shape = tuple[int, int, int]
NeuronFactory = Callable[[], nn.Module]
Filters = Literal["unit", "kaiming"]


def check_arguments(
    model: str,
    shape: Shape,
    classes: int,
    neuron: NeuronFactory,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    **flags: bool,
) -> None:
    """Check the arguments that models share.

    Args:
        model: Name of the model, for messages.
        shape: Shape of a sample.
        classes: Number of outputs.
        neuron: Function that makes neurons.
        width: Multiplier of channels, if the model has one.
        dropout: Dropout probability, if the model has one.
        **flags: Arguments that are True or False.

    Raises:
        ShapeError: `shape` is not three positive integers.
        ConfigError: Another argument is out of its range, or `neuron` is not a function that makes neurons.
    """
    if not isinstance(shape, Sequence) or len(shape) != 3 or not all(map(_is_size, shape)):
        raise ShapeError(
            f"{model}(shape={shown(shape)}) was asked to take such samples, which are not images: it needs three whole "
            "numbers from 1 to 10**6, (channels, height, width). Give flat data as (features, 1, 1)."
        )
    check_count(model, "classes", classes, "there is one output per class", most=MOST)
    check_within(model, "width", width, "(0, 100]", "channels are multiplied by it; 1 is full size")
    check_within(model, "dropout", dropout, "[0, 1)", "dropout is the share that is removed")
    check_flag(model, **flags)
    if isinstance(neuron, nn.Module) or not callable(neuron):
        raise ConfigError(
            f"{model} was given the neuron {shown(neuron)}, but every layer needs a neuron of its own. Give a function "
            "that makes one, such as lambda: LIF(tau=2.0)."
        )


def _is_size(size: object) -> bool:
    return isinstance(size, Integral) and not isinstance(size, bool) and 1 <= int(size) <= MOST


def check_kernel(model: str, name: str, side: int) -> None:
    """Raise `ConfigError` unless the side of a kernel is odd, from 1 to 255."""
    check_count(model, name, side, f"{name} is the side of a kernel", most=255)
    if side % 2 == 0:
        raise ConfigError(f"{model} was given {name}={side}, which has no centre pixel. Use an odd number.")


def check_choice(model: str, option: str, value: str, known: Iterable[str]) -> None:
    """Raise `ConfigError` with the nearest known name unless an option has one of its values."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{model} has no {option} {shown(value)}. {nearest(value, known)}")


def check_halvings(model: str, shape: Shape, halvings: int) -> None:
    """Raise `ShapeError` if an image is too small to be halved that often."""
    if min(shape[1:]) >> halvings < 1:
        raise ShapeError(
            f"{model} halves its image {halvings} times, but {shape[1]} x {shape[2]} pixels leave nothing: both sides "
            f"need {2**halvings} or more. Enlarge the images, or take a model with less pooling."
        )


def scaled(channels: int, width: float) -> int:
    """Return the number of channels under a width multiplier in (0, 100]: rounded, at least 1."""
    return max(1, round(channels * width))


def dropout_layers(rate: float) -> list[nn.Module]:
    """Return a list with one dropout layer for a rate in [0, 1), empty at rate 0."""
    return [nn.Dropout(rate)] if rate else []


def output_layers(classes: int, neuron: NeuronFactory, *, spiking: bool, norm: bool = True) -> nn.Sequential:
    """Return the layers after a spiking readout: batch normalisation if `norm`, and neurons; empty if not `spiking`."""
    if not spiking:
        return nn.Sequential()
    return nn.Sequential(*([nn.BatchNorm1d(classes)] if norm else []), neuron())


def init_convolutions(model: nn.Module, *, zero_bias: bool = True) -> None:
    """Initialise every convolution Kaiming-normal (fan out, ReLU gain), with zero bias unless told otherwise."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_bias and module.bias is not None:
                nn.init.zeros_(module.bias)


def init_readout(readout: nn.Linear, std: float) -> None:
    """Initialise a readout normal with this standard deviation and zero bias."""
    nn.init.normal_(readout.weight, std=std)
    nn.init.zeros_(readout.bias)


def init_for_spikes(layers: Iterable[nn.Module]) -> None:
    """Initialise the linear maps and convolutions of a sequence so that all currents start with about unit variance.

    Weights are normal with variance 1 / fan_in in the first layer and 2.74 ** 2 / fan_in after neurons, whose spikes
    have less than unit variance; biases are zero. With PyTorch's default, the second layer does not fire.
    """
    gain = 1.0
    for layer in layers:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
            gain = SPIKE_SCALE
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def init_filters(layers: Iterable[nn.Module], filters: Filters, scale: float = 1.0) -> None:
    """Initialise the linear maps and convolutions of a sequence for networks with an equilibrium; biases are zero.

    "unit" draws uniform weights and scales those of every output channel to unit norm (IDE); "kaiming" draws normal
    weights of variance 2 / fan_in (SPIDE). Both are multiplied by `scale`.
    """
    for layer in layers:
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        weight = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        if filters == "unit":
            nn.init.uniform_(weight, -1.0, 1.0)
            weight.div_(torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.dim())), keepdim=True))
        else:
            nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
        weight.mul_(scale)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
