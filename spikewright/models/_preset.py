"""Constructors of a network with fixed arguments and other defaults."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from spikewright.models._parts import NeuronFactory, Shape

Net = TypeVar("Net", bound=nn.Module)


def preset(name: str, net: type[Net], summary: str, settled: Mapping[str, Any], **defaults: Any) -> Callable[..., Net]:
    """Return a constructor of a network, with the signature and documentation of what is left to choose.

    Args:
        name: Name of the constructor.
        net: Class of the network, whose docstring has the sections Args, Raises and Reference.
        summary: Description of the preset, without a full stop.
        settled: Arguments with fixed values, which the constructor does not take.
        **defaults: Other defaults of the remaining arguments.
    """

    def make(shape: Shape, classes: int, neuron: NeuronFactory, **options: Any) -> Net:
        return net(shape, classes, neuron, **settled, **{**defaults, **options})

    signature = inspect.signature(net)
    own = [p for p in signature.parameters.values() if p.name not in settled]
    own = [p.replace(default=defaults[p.name]) if p.name in defaults else p for p in own]
    make.__signature__ = signature.replace(parameters=own, return_annotation=net)  # type: ignore[attr-defined]
    make.__wrapped__ = net  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = name
    make.__doc__ = _documentation(net, summary, settled, defaults)
    return make


def _documentation(net: type[nn.Module], summary: str, settled: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Return the docstring of a preset, made of that of its network."""
    arguments, _, rest = (inspect.getdoc(net) or "").partition("Args:\n")[2].partition("\n\n")
    entries = {entry.split(":")[0].strip(): entry for entry in re.split(r"\n(?=    \w+: )", arguments)}
    for key in defaults.keys() & entries.keys():
        default = repr(defaults[key]).replace("'", '"')
        entries[key] = re.sub(r"Default:\s.*", f"Default: {default}.", entries[key], flags=re.S)
    shown = "\n".join(entry for key, entry in entries.items() if key not in settled)
    fixed = "`, `".join(f"{key}={value!r}" for key, value in settled.items())
    kind = f"A preset of `{net.__name__}`" + (f" with `{fixed}`" if fixed else "")
    use = "Maps one time step `[batch, *shape]` to `[batch, classes]`; `sw.Network` runs it over time."
    return f"{summary}.\n\n{kind}. {use}\n\nArgs:\n{shown}\n\n{rest.partition('>>>')[0].rstrip()}\n"
