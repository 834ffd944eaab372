"""A network under another name, with some of its arguments settled and other defaults for the rest."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from spikewright.models._parts import NeuronFactory, Shape

Net = TypeVar("Net", bound=nn.Module)


def preset(name: str, net: type[Net], summary: str, settled: Mapping[str, Any], **defaults: Any) -> Callable[..., Net]:
    """Make a constructor of a network.

    Args:
        name: Of the constructor.
        net: The network.
        summary: What it is, without a full stop.
        settled: Arguments that the constructor does not have.
        **defaults: Other defaults of those it has.
    """

    def make(shape: Shape, classes: int, neuron: NeuronFactory, **options: Any) -> Net:
        return net(shape, classes, neuron, **settled, **{**defaults, **options})

    signature = inspect.signature(net)
    own = [p for p in signature.parameters.values() if p.name not in settled]
    own = [p.replace(default=defaults[p.name]) if p.name in defaults else p for p in own]
    make.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    make.__wrapped__ = net  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"{summary}; the arguments are those of `{net.__name__}`."
    return make
