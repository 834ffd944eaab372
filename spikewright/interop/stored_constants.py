"""Constants of neurons that other libraries keep in state dicts, by the name under which they keep them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Library = Literal["spikingjelly", "snntorch", "sinabs", "norse"]
LIBRARIES = get_args(Library)
Kind = Literal["leak", "current_leak", "threshold", "amplitude", "reset", "gain", "lower_bound", "used", "state"]


@dataclass(frozen=True)
class Stored:
    """A constant in a state dict of another library.

    Attributes:
        kind: What it is here; "used" for what is in another one, "state" for what is not loaded.
        equation: Relation to ours, in words.
        ours: Function from their value to ours. Default: the identity.
    """

    kind: Kind
    equation: str
    ours: Callable[[Tensor], Tensor] = lambda value: value


def _clamped(beta: Tensor) -> Tensor:
    return beta.clamp(0, 1)  # as snnTorch does when it runs


def _decay(tau: Tensor) -> Tensor:
    return torch.exp(-1 / tau)


_LEFT = "left by a run of theirs, not loaded"
STORED: Mapping[Library, Mapping[str, Stored]] = {
    "snntorch": {
        "beta": Stored("leak", "leak = beta, within [0, 1]", _clamped),
        "alpha": Stored("current_leak", "current_leak = alpha, within [0, 1]", _clamped),
        "threshold": Stored("threshold", "threshold"),
        "graded_spikes_factor": Stored("amplitude", "amplitude = graded_spikes_factor"),
        "reset_mechanism_val": Stored("reset", "0 subtract, 1 zero, 2 none"),
        "R": Stored("used", "Lapicque: in the leak"),
        "C": Stored("gain", "Lapicque: gain = time_step/C"),
        "time_step": Stored("leak", "Lapicque: leak = 1 - time_step/(R C)"),
    },
    "spikingjelly": {"w": Stored("leak", "leak = 1 - sigmoid(w)", lambda w: torch.sigmoid(-w))},
    "sinabs": {
        "tau_mem": Stored("leak", "leak = exp(-1/tau_mem)", _decay),
        "alpha_mem": Stored("leak", "leak = alpha_mem"),
        "tau_syn": Stored("current_leak", "current_leak = exp(-1/tau_syn)", _decay),
        "alpha_syn": Stored("current_leak", "current_leak = alpha_syn"),
        "spike_threshold": Stored("threshold", "threshold = spike_threshold"),
        "min_v_mem": Stored("lower_bound", "lower_bound = min_v_mem"),
        "v_mem": Stored("state", _LEFT),
        "i_syn": Stored("state", _LEFT),
    },
    "norse": {},
}
"""What is known of state dicts of spikingjelly 2.0, snntorch 1.0, sinabs 3.1 and norse 1.1."""
UNSTORED: Mapping[Library, str] = {
    "snntorch": (
        "inhibition and state_quant (no equal here), reset_delay (True, the default, is reset='late' here; False with "
        "subtract has no equal), the comparison (fires above the threshold), spike_grad, and whether an alpha is that "
        "of Synaptic or of Alpha (no equal here) are not stored"
    ),
    "spikingjelly": (
        "the kind of neuron, tau, v_threshold, v_reset, decay_input, detach_reset and the surrogate are not stored"
    ),
    "sinabs": "norm_input, reset_fn, spike_fn and surrogate_grad_fn are not stored",
    "norse": "nothing of a neuron is stored: tau_mem_inv, v_th, reset_method and dt are arguments",
}
"""What the numbers of a state dict do not say, and the neurons here have to be made with."""
_LAPICQUE = ("R", "C", "time_step")


def converted(library: Library, entries: Mapping[str, Tensor]) -> dict[str, tuple[Stored, Tensor]]:
    """Return what the entries of one neuron are here, and their values here, by their names.

    Args:
        library: Library of the other model.
        entries: Constants of one neuron in double precision, all known, by their names there.
    """
    known = STORED[library]
    found = {leaf: (known[leaf], known[leaf].ours(value)) for leaf, value in entries.items()}
    if library == "snntorch" and entries.keys() >= {*_LAPICQUE}:  # computes with these alone, and not with its beta
        r, c, step = (entries[leaf] for leaf in _LAPICQUE)
        found["time_step"] = known["time_step"], 1 - step / (r * c)
        found["C"] = known["C"], step / c
        if "beta" in found:
            found["beta"] = Stored("state", "Lapicque: not what it computes with"), entries["beta"]
    return found


def half_of_lapicque(library: Library, entries: Mapping[str, object]) -> list[str]:
    """Return which constants of `Lapicque` of snnTorch are missing beside others of it."""
    missing = [leaf for leaf in _LAPICQUE if leaf not in entries]
    return missing if library == "snntorch" and 0 < len(missing) < len(_LAPICQUE) else []
