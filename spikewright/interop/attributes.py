"""Attributes of neurons that the forward of a model reads or sets: constants, states, and calls to rest."""

from typing import Any

from torch import Tensor, nn

from spikewright.errors import ConversionError

RESTS = frozenset({"reset_mem", "init_leaky", "init_lapicque", "init_rleaky", "init_synaptic"})
"""Methods that put a neuron to rest."""
MODES = frozenset({"step_mode", "backend", "training"})
"""How a neuron is called, which changes no number."""
_STATES = frozenset({"mem", "syn", "syn_exc", "syn_inh", "spk", "v", "v_mem", "i_syn", "v_seq", "recordings"})


def is_state(neuron: nn.Module, name: str) -> bool:
    """True if an attribute of a neuron of another library changes from step to step."""
    memories: Any = vars(neuron).get("_memories", {})
    return name in memories or (name in _STATES and hasattr(neuron, name))


def set_in_forward(layer: str, name: str) -> ConversionError:
    """Return the error for a forward that sets an attribute of a neuron."""
    return ConversionError(
        f"convert: the forward of the model sets {name} of '{layer}', but a run holds the states of neurons, which "
        "start at rest, and their constants stay. Set it before convert, outside of the forward; to start at rest "
        "needs no call."
    )


def state_read(layer: str, name: str) -> ConversionError:
    """Return the error for a forward that reads a state of a neuron as an attribute."""
    return ConversionError(
        f"convert: the forward of the model reads {name} of '{layer}', a state, as an attribute of the neuron, but a "
        f"run holds the states of neurons, and the neuron here has no {name}. Use what the neuron returns: its spikes, "
        "or the potential that snnTorch returns beside them (output=True)."
    )


def constants_of(neuron: Any, names: set[str]) -> dict[str, Any]:
    """Return constants of a neuron of another library, by name.

    Args:
        neuron: The neuron.
        names: Names that the forward reads.

    >>> import torch
    >>> neuron = torch.nn.Module()
    >>> neuron.beta = torch.tensor(0.9)
    >>> constants_of(neuron, {"beta"})
    {'beta': tensor(0.9000)}
    """
    found = {name: getattr(neuron, name) for name in sorted(names)}
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in found.items()}


def is_in_forward(name: str) -> bool:
    """True for an attribute that says something about a neuron, not about how it is called."""
    return name not in MODES and not name.startswith("_")
