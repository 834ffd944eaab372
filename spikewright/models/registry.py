"""Models by name."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from spikewright._util.arguments import shown
from spikewright.errors import ConfigError, nearest
from spikewright.models._parts import NeuronFactory, Shape
from spikewright.models.conv import Conv
from spikewright.models.feedback_presets import alexnet_f, cifarnet_f, conv_f, dvs_conv_f, mlp_f, spide_conv_f
from spikewright.models.lenet import SpideLeNet
from spikewright.models.mlp import MLP
from spikewright.models.nf_resnet_depths import nf_resnet18, nf_resnet34, nf_resnet50, nf_resnet101
from spikewright.models.preact_resnet import PreActResNet18
from spikewright.models.resnet import ResNet18
from spikewright.models.stream_resnet import StreamResNet18
from spikewright.models.vgg import VGG, conv5, conv9, vgg_f
from spikewright.models.vgg_bn import VGG11BN, vgg_dsr

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet_f": alexnet_f,
    "cifarnet_f": cifarnet_f,
    "conv": Conv,
    "conv5": conv5,
    "conv9": conv9,
    "conv_f": conv_f,
    "dvs_conv_f": dvs_conv_f,
    "mlp": MLP,
    "mlp_f": mlp_f,
    "nf_resnet101": nf_resnet101,
    "nf_resnet18": nf_resnet18,
    "nf_resnet34": nf_resnet34,
    "nf_resnet50": nf_resnet50,
    "preact_resnet18": PreActResNet18,
    "resnet18": ResNet18,
    "spide_conv_f": spide_conv_f,
    "spide_lenet": SpideLeNet,
    "stream_resnet18": StreamResNet18,
    "vgg": VGG,
    "vgg11_bn": VGG11BN,
    "vgg_dsr": vgg_dsr,
    "vgg_f": vgg_f,
}


def list_models() -> list[str]:
    """Return the sorted names of all models.

    >>> from spikewright.models import list_models
    >>> "vgg_f" in list_models()
    True
    """
    return sorted(_MODELS)


def model_class(name: str) -> Callable[..., nn.Module]:
    """Return the constructor of a model, a class or a function `(shape, classes, neuron, *, options...)`.

    Args:
        name: One of `list_models()`.

    Raises:
        ConfigError: The model is unknown.
    """
    if not isinstance(name, str) or name not in _MODELS:
        raise ConfigError(f"There is no model {shown(name)}. {nearest(name, _MODELS)}")
    return _MODELS[name]


def create_model(name: str, shape: Shape, classes: int, neuron: NeuronFactory, **options: Any) -> nn.Module:
    """Build a model by name.

    The model maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time.

    Args:
        name: One of `list_models()`: "alexnet_f", "cifarnet_f", "conv", "conv5", "conv9", "conv_f", "dvs_conv_f",
            "mlp", "mlp_f", "nf_resnet101", "nf_resnet18", "nf_resnet34", "nf_resnet50", "preact_resnet18", "resnet18",
            "spide_conv_f", "spide_lenet", "stream_resnet18", "vgg", "vgg11_bn", "vgg_dsr" or "vgg_f".
        shape: Shape `(channels, height, width)` of a sample, each from 1 to 10**6.
        classes: Number of outputs, from 1 to 10**6.
        neuron: Function without arguments that returns a new neuron module, called once per neuron layer: a class such
            as `sw.LIF`, or `lambda: sw.LIF(tau=2.0)`.
        **options: Keyword arguments of the constructor, `model_class(name)`.

    Raises:
        ConfigError: The name or an option is unknown, or an option is out of its range.
        ShapeError: The model cannot take images of this shape.

    >>> from spikewright.models import create_model
    >>> import torch
    >>> import spikewright as sw
    >>> net = sw.Network(create_model("mlp", (1, 8, 8), 10, lambda: sw.LIF(tau=2.0), hidden=(32,)))
    >>> net(torch.rand(6, 5, 1, 8, 8)).shape  # [time, batch, class]
    torch.Size([6, 5, 10])
    """
    constructor = model_class(name)
    parameters = inspect.signature(constructor).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"The model '{name}' has no option '{option}'. {nearest(option, known)}")
    return constructor(shape, classes, neuron, **options)
