"""Constants of a state dict into a neuron, after all checks that the neuron makes of them when it is made."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, NetworkError
from spikewright.interop.stored_constants import Kind
from spikewright.neurons import Neuron
from spikewright.neurons._constants import check_constants, check_counting, check_late
from spikewright.neurons._decays import Decaying, time_constants

Plan = Callable[[], object]
"""Loads something; nothing is changed before it is called."""


def planned(name: str, neuron: Neuron, key: str, kind: Kind, value: Tensor, gain_follows: bool = False) -> Plan:
    """Return what loads a constant into a neuron; nothing is changed before it is called.

    Args:
        name: Name of the neuron.
        neuron: The neuron.
        key: Name of the constant in the state dict.
        kind: What it is here.
        value: Its value here, in double precision: one number, or a tensor that broadcasts to `[batch, *feature]` as
            theirs does.
        gain_follows: True if the gain is loaded too, so that it need not have been computed from the decay.

    Raises:
        NetworkError: The neuron has no such constant, another one depends on it, or it is out of its range.
    """
    value = value.reshape(()) if value.numel() == 1 else value.unsqueeze(0) if value.dim() == 1 else value
    if kind in ("used", "state"):
        return _nothing
    try:
        if kind == "reset":
            return _check_reset(name, neuron, key, value)
        if kind in ("leak", "current_leak"):
            return _decay_into(name, neuron, key, kind.removesuffix("leak"), value, gain_follows)
        if kind == "lower_bound":
            return _bound_into(name, neuron, key, value)
        return _constant_into(name, neuron, key, kind, value)
    except ConfigError as error:
        raise NetworkError(
            f"'{key}' of the state dict cannot be loaded into '{name}', which would not take it as an argument either: "
            f"{error}"
        ) from error


def _constant_into(name: str, neuron: Neuron, key: str, kind: Kind, value: Tensor) -> Plan:
    held = getattr(neuron, kind)
    if not bool(value.isfinite().all()):
        raise _out_of_range(name, key, value, f"a {kind} enters every step, and is finite")
    if kind == "gain" and neuron._tied:
        held = neuron.input_gain  # type: ignore[attr-defined]
        if _same(held, value):
            return _nothing
        raise _other(name, neuron, key, value, "gain", "its input scale is tied to tau")
    if kind == "amplitude" and value.dim():
        raise _other(name, neuron, key, value, "amplitude", "one spike of theirs per neuron has a value of its own")
    _check_range(neuron, **{kind: value.item() if not value.dim() else value})
    if isinstance(held, nn.Parameter):
        if kind == "threshold" and bool((value < neuron._least).any()):
            raise _out_of_range(
                name, key, value, f"this neuron trains its threshold down to {neuron._least:.6g} at least, by its start"
            )
        return _into(name, key, held, value)
    if _same(held, value):
        return _nothing
    if kind == "amplitude":
        return lambda: setattr(neuron, "amplitude", value.item())
    if kind == "threshold":
        _check_alone(name, neuron, key, value, "threshold", ("rest",))
    return lambda: _hold(neuron, kind, value)


def _hold(neuron: Neuron, kind: str, value: Tensor) -> None:
    if kind in neuron._buffers:
        delattr(neuron, kind)  # a buffer, in whose place there may be a number now
        neuron._exact.discard(kind)
    neuron.hold(kind, value.item() if not value.dim() else value.clone())


def _check_range(neuron: Neuron, **loaded: Any) -> None:
    held = {kind: getattr(neuron, kind) for kind in ("threshold", "rest", "amplitude", "noise")} | loaded
    threshold, rest = (
        each.detach().double().cpu() if isinstance(each, Tensor) else float(each)
        for each in (held["threshold"], held["rest"])
    )
    numbers = {kind: float(held[kind]) for kind in ("amplitude", "noise")}
    check_constants(type(neuron).__name__, threshold, rest, neuron.reset, numbers)


def _decay_into(name: str, neuron: Neuron, key: str, kind: str, value: Tensor, gain_follows: bool) -> Plan:
    argument = "tau_syn" if kind else "tau"
    if not bool(((value >= 0) & (value <= 1)).all()):
        raise _out_of_range(name, key, value, "the share of a potential or current that is left is in [0, 1]")
    if not isinstance(neuron, Decaying) or not hasattr(neuron, f"_{kind}leak"):
        if not kind and _same(neuron.leak, value):
            return _nothing
        raise _other(name, neuron, key, value, argument, "it has no such decay")
    if kind and not neuron.has_current:
        raise _other(name, neuron, key, value, argument, "it has no such decay")
    learned = neuron.learns(kind)
    if not learned and _same(neuron.decay_of(kind), value):
        return _nothing
    if bool((value == 1).any()):
        raise _other(name, neuron, key, value, argument, "neurons that retain everything are IF()")
    owner = type(neuron).__name__
    time_constants(owner, argument, 1 / (1 - value), learned)
    if not kind and neuron.reset == "late":
        check_late(owner, float(value.min()))
    if learned:
        return _into(name, key, getattr(neuron, f"{kind}leak_logit"), torch.logit(value))
    _check_alone(name, neuron, key, value, argument, ("current_gain", "rest", *([] if gain_follows else ["gain"])))
    return lambda: neuron.set_decay(kind, argument, 1 / (1 - value), False)


def _bound_into(name: str, neuron: Neuron, key: str, value: Tensor) -> Plan:
    owner = type(neuron).__name__
    if not neuron.spiking or not neuron._plain_scan:
        raise _other(name, neuron, key, value, "lower_bound", "its potential has no bound")
    if value.dim():
        raise _other(name, neuron, key, value, "lower_bound", "its bound is one number")
    check_counting(owner, neuron.max_spikes, value.item(), {})
    return lambda: setattr(neuron, "lower_bound", value.item())


def _check_reset(name: str, neuron: Neuron, key: str, value: Tensor) -> Plan:
    kind = "none" if not neuron.spiking else "zero" if neuron.reset == "zero" else "subtract"
    theirs = {0.0: "subtract", 1.0: "zero", 2.0: "none"}.get(value.item() if not value.dim() else -1.0, f"{value}")
    if theirs != kind:
        raise NetworkError(
            f"'{key}' says that theirs has reset_mechanism={theirs!r}, but '{name}' here is {neuron}, with another "
            "reset, which would send other spikes. Make it with reset='late' for subtract, reset='zero' for zero, or "
            "use LI for none."
        )
    return _nothing


def _into(name: str, key: str, parameter: Tensor, value: Tensor) -> Plan:
    several = value.dim() > 0
    wide = list(value.shape)
    here = list(parameter.shape)
    if (several or parameter.numel() != 1) and (len(here) < 2 or _bare(here) != _bare(wide)):
        advice = f"torch.full({wide}, 2.0)" if several else "one number"
        told = ", and one axis stands for channels here, but for the last axis there" if len(here) == 1 else ""
        raise NetworkError(
            f"'{key}' has {value.numel()} values, but what '{name}' trains has {parameter.numel()} "
            f"({here}){told}. Give the neuron as many, of a shape that broadcasts as theirs does: {advice} in place of "
            "the number."
        )
    return lambda: parameter.data.copy_(value.reshape(parameter.shape))


def _bare(shape: list[int]) -> list[int]:
    """Return a shape without leading axes of 1, which broadcasting adds."""
    first = next((place for place, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _check_alone(name: str, neuron: Neuron, key: str, value: Tensor, argument: str, others: tuple[str, ...]) -> None:
    """Raise `NetworkError` if constants of a neuron are set that may have been computed from the one to load."""
    usual: dict[str, Any] = {"gain": 1.0, "current_gain": 1.0, "rest": 0.0}
    for other in others:
        held = getattr(neuron, other, usual[other])
        if isinstance(held, Tensor) or held != usual[other]:
            raise _other(name, neuron, key, value, argument, f"its {other} may have been computed from another one")


def _out_of_range(name: str, key: str, value: Tensor, why: str) -> NetworkError:
    return NetworkError(
        f"'{key}' of the state dict is {_shown(value)} here, for '{name}', but {why}. Correct the state dict, or make "
        "the neuron with the constants of theirs."
    )


def _other(name: str, neuron: Neuron, key: str, value: Tensor, argument: str, why: str) -> NetworkError:
    here = f"{_shown(value)} here" if not value.dim() else _shown(value)
    return NetworkError(
        f"'{key}' is {here}, but '{name}' is {neuron}, and {why}. Make the neuron with the constants of theirs "
        f"({argument}=...) before its state dict is loaded; a decay d is tau = 1 / (1 - d)."
    )


def _shown(value: Tensor) -> str:
    if not value.dim():
        return f"{value.item():.6g}"
    low, high = value.min().item(), value.max().item()
    return f"{value.numel()} values from {low:.6g} to {high:.6g}"


def _same(held: float | Tensor, value: Tensor) -> bool:
    """True if a constant is that of a state dict, which may have been rounded to float32."""
    own = torch.as_tensor(held, dtype=torch.float64).cpu()
    if own.numel() != 1 and (own.dim() < 2 or _bare(list(own.shape)) != _bare(list(value.shape))):
        return False  # one axis stands for channels here, and for the last axis there
    own, theirs = own.flatten(), value.flatten()
    return own.numel() == theirs.numel() and bool(torch.allclose(own, theirs, rtol=2**-22, atol=0))


def _nothing() -> None: ...
