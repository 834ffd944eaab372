"""Which module here a module of a state dict is: by its name, else by its place in the order."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from spikewright._util.text import counted
from spikewright.errors import NetworkError
from spikewright.layers import Recurrent
from spikewright.neurons import Neuron

_INSIDE = ("recurrent", "rec_connect")
"""Names that other libraries give the layer by which neurons send spikes to themselves."""
Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Groups:
    """Modules that a state dict has entries of.

    Attributes:
        layers: Names and shapes of the entries of layers, by the name of the module.
        neurons: Names of modules whose entries are all constants of neurons.
    """

    layers: dict[str, Shapes]
    neurons: list[str]

    @classmethod
    def of(cls, state_dict: Mapping[str, Tensor], constants: Mapping[str, object]) -> "Groups":
        """Sort a state dict by modules; `constants` are the names of constants of neurons."""
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, value in state_dict.items():
            prefix, _, leaf = key.rpartition(".")
            found.setdefault(prefix, {})[leaf] = tuple(value.shape)
        neurons = [prefix for prefix, entries in found.items() if entries.keys() <= constants.keys()]
        return cls({k: tuple(v.items()) for k, v in found.items() if k not in neurons}, neurons)


def matched(module: nn.Module, groups: Groups, names: Mapping[str, str]) -> dict[str, str]:
    """Return the name of a module here for every module of a state dict.

    Args:
        module: The module here.
        groups: Modules of the state dict.
        names: Names here that the user gives, by names there.

    Raises:
        NetworkError: A name does not exist, or there is no match, neither by name nor in order.
    """
    own = dict(module.named_modules())
    theirs = [*groups.layers, *groups.neurons]
    unknown = [name for name in names if name not in theirs] + [name for name in names.values() if name not in own]
    if unknown:
        raise NetworkError(
            f"names={dict(names)} speaks of '{unknown[0]}', which is neither a module of the state dict "
            f"({', '.join(map(repr, theirs))}) nor one here. Give names of modules, without '.weight'."
        )
    found = {name: names.get(name) or _named(own, name, name in groups.neurons) for name in theirs}
    missing = [name for name, place in found.items() if place is None]
    if not missing:
        return {name: place for name, place in found.items() if place is not None}
    layers = [name for name, part in own.items() if _shapes(part) and not isinstance(part, Neuron)]
    return {
        **_in_order("layer", list(groups.layers), layers, missing),
        **_in_order("neuron", groups.neurons, _neurons(own, len(groups.neurons)), missing),
        **names,
    }


def _named(own: Mapping[str, nn.Module], name: str, neuron: bool) -> str | None:
    """Return the module of this name, or what it is within a `Recurrent` here; `None` if there is none."""
    outer, _, inner = name.rpartition(".")
    if inner in _INSIDE and isinstance(own.get(outer), Recurrent):
        return f"{outer}.transform"
    part = own.get(name)
    if neuron and isinstance(part, Recurrent):
        return f"{name}.neuron"
    return name if part is not None and (isinstance(part, Neuron) or not neuron) else None


def _in_order(what: str, theirs: list[str], ours: list[str], missing: list[str]) -> dict[str, str]:
    if len(theirs) != len(ours):
        raise NetworkError(
            f"The state dict has '{missing[0]}', and here there is no module of this name and kind. In order it cannot "
            f"be found either: there are {counted(len(theirs), what)} with entries there, {', '.join(theirs) or 'none'}"
            f", and {len(ours)} here, {', '.join(ours) or 'none'}. Build the same structure, or give "
            "names={theirs: ours}."
        )
    return dict(zip(theirs, ours, strict=True))


def _neurons(own: Mapping[str, nn.Module], number: int) -> list[str]:
    """Return the neurons, or those that train something if only these are as many."""
    found = [name for name, part in own.items() if isinstance(part, Neuron)]
    trained = [name for name in found if [*own[name].parameters(recurse=False)]]
    return trained if len(found) != number == len(trained) else found


def _shapes(part: nn.Module) -> Shapes:
    held = {**part._parameters, **part._buffers}
    return tuple((name, tuple(value.shape)) for name, value in held.items() if value is not None)
