"""Checks of the constants of a neuron."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from spikewright._util.arguments import check_number, is_numeric, shown
from spikewright._util.ranges import check_choice
from spikewright.errors import ConfigError
from spikewright.surrogate import Surrogate

ResetKind = Literal["subtract", "zero", "late"]
"""What a spike does to the potential."""
Potential = Literal["before reset", "after reset"]
"""When a potential is read."""
Constants = float | Sequence[float] | Tensor
"""A number, or one per channel."""

_TRAINED = {name: f"; to train it, learn_{name}=True." for name in ("threshold", "gain", "beta")}
_IN_THE_WEIGHTS = "To train a scale, train the weights or a normalisation in front of or behind the neurons."


def constant(owner: str, name: str, value: object, learned: bool = False) -> float | Tensor:
    """Check a constant that is one number or one per channel, and return it as a number or in double precision.

    Args:
        owner: Name of the neuron class, for messages.
        name: Name of the argument.
        value: What was given.
        learned: True if it is a start value.

    Raises:
        ConfigError: It is neither, or not finite.
    """
    several = isinstance(value, Tensor) or (isinstance(value, Sequence) and not isinstance(value, str))
    if not several:
        check_number(owner, name, value)
        return float(value)  # type: ignore[arg-type]
    asked = f"{owner}({name}={shown(value)})"
    if isinstance(value, Tensor) and value.requires_grad:
        raise ConfigError(
            f"{asked} was given a tensor that asks for a gradient, but {name} is a "
            f"{'start value' if learned else 'constant'}, and no gradient would reach it. Give {name}.detach()"
            f"{_TRAINED.get(name, '.')}"
        )
    try:
        found = torch.as_tensor(value if is_numeric(value) else (), dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, OverflowError, RuntimeError):  # rows of several lengths, numbers beyond floats
        found = torch.empty(0)
    if not found.numel():
        raise ConfigError(
            f"{asked}: {name} is one number, or one per channel. Give a float such as {name}=1.0, or a list of as many "
            "as there are channels."
        )
    if not bool(found.isfinite().all()):
        raise ConfigError(
            f"{asked}: {name} enters every step, so all that is computed from it would be infinite or NaN. Give finite "
            "numbers."
        )
    return found.item() if found.numel() == 1 and found.dim() == 0 else found


def check_constants(
    name: str, threshold: float | Tensor, rest: float | Tensor, reset: str, constants: Mapping[str, float]
) -> None:
    """Raise `ConfigError` unless the constants of a neuron are in their ranges.

    Args:
        name: Name of the neuron class, for messages.
        threshold: Firing threshold.
        rest: Reset shift.
        reset: Kind of reset.
        constants: The arguments `amplitude` and `noise`, by name.
    """
    for key, value in constants.items():
        check_number(name, key, value, trained=_IN_THE_WEIGHTS)
    if not _all(threshold, above=0.0):
        raise ConfigError(
            f"{name}(threshold={shown(threshold)}): a neuron fires when its potential reaches the threshold, "
            "and at rest the potential is 0, so the threshold must be above 0. Give a positive number, such as "
            "threshold=1.0."
        )
    check_choice(name, "reset", reset, get_args(ResetKind))
    zero = isinstance(rest, float) and rest == 0
    if not _all(threshold - rest, above=0.0) or (not zero and reset != "subtract"):
        raise ConfigError(
            f"{name}(threshold={shown(threshold)}, rest={shown(rest)}, reset={reset!r}): a soft reset "
            "takes threshold - rest off the potential, so rest must be below the threshold; a hard reset sets the "
            "potential to 0, and a late one takes the threshold off a step later: both ignore rest. Use "
            "reset='subtract' with rest < threshold, or rest=0."
        )
    if constants["amplitude"] == 0:
        raise ConfigError(
            f"{name}(amplitude={constants['amplitude']}): a spike is sent as this value, so with 0 the layers behind "
            "receive nothing, and no gradient comes back. Give a number other than 0, such as amplitude=1.0."
        )
    if constants["noise"] < 0:
        raise ConfigError(
            f"{name}(noise={constants['noise']}): noise is a standard deviation, which cannot be negative. Give 0 for "
            "no noise, or a positive number."
        )


def check_counting(name: str, max_spikes: int | None, lower_bound: float | None, options: Mapping[str, bool]) -> None:
    """Raise `ConfigError` unless several spikes per step and a bound of the potential can be had with the rest.

    Args:
        name: Name of the neuron class, for messages.
        max_spikes: Largest number of spikes in a step, or `None`.
        lower_bound: Least potential after a reset, or `None`.
        options: What several spikes per step exclude, in words, and whether it is asked for.
    """
    if max_spikes is not None and (isinstance(max_spikes, bool) or not isinstance(max_spikes, int) or max_spikes < 1):
        raise ConfigError(
            f"{name}(max_spikes={shown(max_spikes)}): a neuron sends at most this number of spikes in a step. Give a "
            "whole number of at least 1, or None for no limit."
        )
    if lower_bound is not None:
        check_number(name, "lower_bound", lower_bound)
        if lower_bound > 0:
            raise ConfigError(
                f"{name}(lower_bound={lower_bound}): potentials start at rest, which is 0, so the bound must not be "
                "above it. Give a number of at most 0, or None for no bound."
            )
    asked = [what for what, is_asked in options.items() if is_asked]
    if max_spikes != 1 and asked:
        raise ConfigError(
            f"{name}(max_spikes={max_spikes}) counts how often the threshold fits into the potential, which is not "
            f"defined with {' and '.join(asked)}. Use one spike per step (max_spikes=1), or leave that out."
        )


def _all(value: float | Tensor, above: float) -> bool:
    return bool((value > above).all()) if isinstance(value, Tensor) else value > above


def check_potential(name: str, potential: object) -> None:
    """Raise `ConfigError` unless it is known which potential is returned, if any."""
    if potential is not None:
        check_choice(name, "potential", potential, get_args(Potential))


def check_surrogate(name: str, surrogate: object) -> None:
    """Raise `ConfigError` unless a surrogate is an instance of `Surrogate`."""
    if not isinstance(surrogate, Surrogate):
        raise ConfigError(
            f"{name}(surrogate={shown(surrogate)}) was given {type(surrogate).__name__}, but the slope of a spike "
            "comes from an object with a method slope(x). Give an instance, such as surrogate=Sigmoid(4.0), or one "
            "of a subclass of Surrogate."
        )


def number_shown(value: float | Tensor) -> str:
    """Return a constant as text, as the number that it is, or how many there are; one without values has none."""
    if isinstance(value, Tensor) and (value.is_meta or value.numel() != 1):
        return f"<{value.numel()} {'values' if value.numel() != 1 else 'value'}>"
    return f"{value.item() if isinstance(value, Tensor) else value:.4g}"
