"""Constants of neurons that other libraries keep in state dicts, by the name under which they keep them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.neurons import Neuron
from spikewright.neurons._decays import Decaying

Library = Literal["spikingjelly", "snntorch", "sinabs", "norse"]
LIBRARIES = get_args(Library)
Kind = Literal["leak", "current_leak", "threshold", "amplitude", "reset", "state"]


@dataclass(frozen=True)
class Stored:
    """A constant in a state dict of another library.

    Attributes:
        kind: What it is here; "state" for what a run of theirs has left, which is not loaded.
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
    },
    "spikingjelly": {"w": Stored("leak", "leak = 1 - sigmoid(w)", lambda w: torch.sigmoid(-w))},
    "sinabs": {
        "tau_mem": Stored("leak", "leak = exp(-1/tau_mem)", _decay),
        "alpha_mem": Stored("leak", "leak = alpha_mem"),
        "tau_syn": Stored("current_leak", "current_leak = exp(-1/tau_syn)", _decay),
        "alpha_syn": Stored("current_leak", "current_leak = alpha_syn"),
        "spike_threshold": Stored("threshold", "threshold = spike_threshold"),
        "v_mem": Stored("state", _LEFT),
        "i_syn": Stored("state", _LEFT),
    },
    "norse": {},
}
"""What is known of state dicts of spikingjelly 2.0, snntorch 1.0, sinabs 3.1 and norse 1.1."""
UNSTORED: Mapping[Library, str] = {
    "snntorch": "reset_delay and the comparison (fires above the threshold) are not stored",
    "spikingjelly": "tau, v_threshold, v_reset and decay_input are not stored",
    "sinabs": "norm_input, reset_fn, spike_fn and min_v_mem are not stored",
    "norse": "nothing of a neuron is stored: tau_mem_inv, v_th, reset_method and dt are arguments",
}
"""What the numbers of a state dict do not say, and the neurons here have to be made with."""


def planned(name: str, neuron: Neuron, key: str, kind: Kind, value: Tensor) -> Callable[[], object]:
    """Return what loads a constant into a neuron; nothing is changed before it is called.

    Args:
        name: Name of the neuron.
        neuron: The neuron.
        key: Name of the constant in the state dict.
        kind: What it is here.
        value: Its value here, in double precision: one number, or one per channel.

    Raises:
        NetworkError: The neuron has no such constant, or another one depends on it.
    """
    if kind == "reset":
        return _check_reset(name, neuron, key, int(value))
    if kind in ("leak", "current_leak"):
        return _decay_into(name, neuron, key, kind.removesuffix("leak"), value)
    held = getattr(neuron, kind)
    if isinstance(held, nn.Parameter):
        return _into(name, key, held, value)
    if _same(held, value):
        return _nothing
    if kind == "amplitude":
        if value.numel() != 1:
            raise _other(name, neuron, key, value, "amplitude", "one spike of theirs per neuron has a value of its own")
        return lambda: setattr(neuron, "amplitude", value.item())
    _check_alone(name, neuron, key, value, "threshold", ("rest",))

    def hold() -> None:
        if "threshold" not in neuron._buffers:
            delattr(neuron, "threshold")  # a number, in whose place there may be a buffer now
        neuron.hold("threshold", value.item() if value.numel() == 1 else value.flatten())

    return hold


def _decay_into(name: str, neuron: Neuron, key: str, kind: str, value: Tensor) -> Callable[[], object]:
    argument = "tau_syn" if kind else "tau"
    if not isinstance(neuron, Decaying) or not hasattr(neuron, f"_{kind}leak"):
        if not kind and _same(neuron.leak, value):
            return _nothing
        raise _other(name, neuron, key, value, argument, "it has no such decay")
    if neuron.learns(kind):
        return _into(name, key, getattr(neuron, f"{kind}leak_logit"), torch.logit(value))
    if _same(neuron.decay_of(kind), value):
        return _nothing
    _check_alone(name, neuron, key, value, argument, ("gain", "current_gain", "rest"))
    if bool((value == 1).any()):
        raise _other(name, neuron, key, value, argument, "neurons that retain everything are IF()")
    decay = value.item() if value.numel() == 1 else value.flatten()
    return lambda: neuron.set_decay(kind, argument, 1 / (1 - decay), False)


def _check_reset(name: str, neuron: Neuron, key: str, value: int) -> Callable[[], object]:
    kind = "none" if not neuron.spiking else "zero" if neuron.reset == "zero" else "subtract"
    known = ("subtract", "zero", "none")
    theirs = known[value] if value in range(3) else str(value)
    if theirs != kind:
        raise NetworkError(
            f"'{key}' says that theirs has reset_mechanism={theirs!r}, but '{name}' here is {neuron}, with another "
            "reset, which would send other spikes. Make it with reset='late' for subtract, reset='zero' for zero, or "
            "use LI for none."
        )
    return _nothing


def _into(name: str, key: str, parameter: Tensor, value: Tensor) -> Callable[[], object]:
    if parameter.numel() != value.numel():
        raise NetworkError(
            f"'{key}' has {value.numel()} values, but what '{name}' trains has {parameter.numel()}. Give the neuron as "
            "many: one number, or one per channel."
        )
    return lambda: parameter.data.copy_(value.reshape(parameter.shape))


def _check_alone(name: str, neuron: Neuron, key: str, value: Tensor, argument: str, others: tuple[str, ...]) -> None:
    """Raise `NetworkError` if constants of a neuron are set that may have been computed from the one to load."""
    usual: dict[str, Any] = {"gain": 1.0, "current_gain": 1.0, "rest": 0.0}
    for other in others:
        held = getattr(neuron, other, usual[other])
        if isinstance(held, Tensor) or held != usual[other]:
            raise _other(name, neuron, key, value, argument, f"its {other} may have been computed from another one")


def _other(name: str, neuron: Neuron, key: str, value: Tensor, argument: str, why: str) -> NetworkError:
    shown = f"{value.item():.6g}" if value.numel() == 1 else f"{value.numel()} values"
    here = f"{shown} here" if value.numel() == 1 else f"{shown}"
    return NetworkError(
        f"'{key}' is {here}, but '{name}' is {neuron}, and {why}. Make the neuron with the constants of theirs "
        f"({argument}=...) before its state dict is loaded; a decay d is tau = 1 / (1 - d)."
    )


def _same(held: float | Tensor, value: Tensor) -> bool:
    """True if a constant is that of a state dict, which may have been rounded to float32."""
    own = torch.as_tensor(held, dtype=torch.float64).flatten()
    theirs = value.flatten()
    return own.numel() == theirs.numel() and bool(torch.allclose(own, theirs, rtol=2**-22, atol=0))


def _nothing() -> None: ...
