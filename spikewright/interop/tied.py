"""Trained constants that several neurons of a model share are one parameter here, too."""

from collections.abc import Mapping as ByName

from torch import nn

from spikewright.errors import ConversionError
from spikewright.interop.mapping import Mapping, Trained
from spikewright.interop.reading import Found


def tie(found: list[Found], mappings: ByName[str, Mapping]) -> None:
    """Give neurons one parameter for a trained constant that is one parameter in the model.

    Args:
        found: Neurons of the model.
        mappings: What each is here, by name; the neurons of some are changed.

    Raises:
        ConversionError: Here the constant would be several functions of its own.
    """
    first: dict[int, tuple[str, Trained]] = {}
    for each in found:
        for constant in mappings[each.name].trained:
            key = id(each.module.get_parameter(constant.theirs))
            name, same = first.setdefault(key, (each.name, constant))
            if same is constant:
                continue
            if name == each.name or (same.ours, same.theirs, same.note) != (
                constant.ours,
                constant.theirs,
                constant.note,
            ):
                raise ConversionError(
                    f"convert: {constant.theirs} of layer '{each.name}' and {same.theirs} of layer '{name}' are one "
                    "parameter, and here they would be two different functions of what is trained. Give each a "
                    "parameter of its own."
                )
            _put(mappings[each.name].neuron, constant.ours, mappings[name].neuron.get_parameter(same.ours))


def _put(neuron: nn.Module, place: str, parameter: nn.Parameter) -> None:
    owner, _, last = place.rpartition(".")
    setattr(neuron.get_submodule(owner), last, parameter)
