"""What a state dict says of a neuron by the entries that it has together, or does not have."""

from collections.abc import Mapping

from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.interop.stored_constants import Library, Stored, half_of_lapicque
from spikewright.layers import Feedback
from spikewright.neurons import Neuron
from spikewright.neurons._constants import Constants

FIRST: Mapping[Library, str] = {"snntorch": "bias", "sinabs": "nothing"}
"""What a recurrent layer of theirs adds at the first step, as the argument `first` here says it."""


def check_together(
    name: str, neuron: Neuron, at: str, library: Library, found: Mapping[str, tuple[Stored, Tensor]]
) -> None:
    """Raise `NetworkError` if a neuron here differs from theirs by something that is in none of the entries alone.

    Args:
        name: Name of the neuron here.
        neuron: The neuron.
        at: Name of theirs.
        library: Library of the other model.
        found: Its entries, with what they are here and their values here.
    """
    if missing := half_of_lapicque(library, found):
        raise NetworkError(
            f"The state dict has entries of Lapicque for '{at}', but not {', '.join(missing)}, so that its leak, "
            "1 - time_step/(R C), is not known; its beta is another number. Give all entries that it has there."
        )
    kinds = {stored.kind for stored, _ in found.values()}
    if "gain" in kinds and neuron.spiking and neuron.reset != "late":
        raise _other(
            at, name, neuron, "is Lapicque, whose reset comes a step late, and which with reset_mechanism='zero' loses "
            "the input of that step, too, as no neuron here does", "Use reset='late', and 'subtract' there",
        )  # fmt: skip
    if library not in FIRST:
        return  # the others store no constants that tell what kind of neuron it is
    if getattr(neuron, "has_current", False) and "current_leak" not in kinds:
        raise _other(at, name, neuron, "has no synaptic current", "Use a neuron without tau_syn")
    if "threshold" not in kinds:
        return
    if "leak" not in kinds and not _is(neuron.leak, 1.0):
        raise _other(at, name, neuron, "has no leak", "Use IF()")
    if library == "sinabs" and "lower_bound" not in kinds and neuron.lower_bound is not None:
        raise _other(at, name, neuron, "has no min_v_mem", "Use lower_bound=None")


def check_first(module: nn.Module, place: str, key: str, value: Tensor, library: Library) -> None:
    """Raise `NetworkError` if the bias of a recurrent layer acts at the first step on one side only.

    Args:
        module: The module here.
        place: Name of the layer here.
        key: Name of the bias in the state dict.
        value: The bias.
        library: Library of the other model.
    """
    parts = place.split(".")
    above = (".".join(parts[:count]) for count in range(len(parts)))
    loops = [(name, part) for name in above if isinstance(part := module.get_submodule(name), Feedback)]
    if not loops or library not in FIRST or not bool(value.count_nonzero()):
        return
    name, loop = loops[-1]
    if loop.first != FIRST[library]:
        raise NetworkError(
            f"'{key}' is the bias of a recurrent layer of {library}, whose neurons "
            f"{'get' if FIRST[library] == 'bias' else 'do not get'} it at the first step, but '{name}' here is "
            f"{type(loop).__name__}(first={loop.first!r}). Use first={FIRST[library]!r}."
        )


def _other(at: str, name: str, neuron: Neuron, theirs: str, advice: str) -> NetworkError:
    return NetworkError(
        f"By its entries in the state dict, '{at}' {theirs}, but '{name}' here is {neuron}, which would send other "
        f"spikes. {advice}."
    )


def _is(constant: Constants, number: float) -> bool:
    return not isinstance(constant, Tensor) and constant == number
