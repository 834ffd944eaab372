"""Checks of the constants of a neuron."""

from collections.abc import Mapping
from typing import get_args

from torch import Tensor

from spikewright._util.arguments import check_number, shown
from spikewright._util.ranges import check_choice
from spikewright.errors import ConfigError
from spikewright.kernels.lif import Reset
from spikewright.surrogate import Surrogate

_TRAINED_THRESHOLD = "For a trained threshold, use DSRIF(learn_threshold=True) or DSRLIF(learn_threshold=True)."
_IN_THE_WEIGHTS = "To train a scale, train the weights or a normalisation in front of or behind the neurons."


def check_constants(name: str, threshold: float, reset: str, constants: Mapping[str, float]) -> None:
    """Raise `ConfigError` unless the constants of a neuron are numbers in their ranges.

    Args:
        name: Name of the neuron class, for messages.
        threshold: Firing threshold.
        reset: Kind of reset.
        constants: The arguments `rest`, `gain`, `amplitude` and `noise`, by name.
    """
    check_number(name, "threshold", threshold, trained=_TRAINED_THRESHOLD)
    for key, value in constants.items():
        check_number(name, key, value, trained=_IN_THE_WEIGHTS)
    if not threshold > 0:
        raise ConfigError(
            f"{name}(threshold={threshold}): a neuron fires when its potential reaches the threshold, and at rest the "
            "potential is 0, so the threshold must be above 0. Give a positive number, such as threshold=1.0."
        )
    check_choice(name, "reset", reset, get_args(Reset))
    rest = constants["rest"]
    if not rest < threshold or (rest != 0 and reset == "zero"):
        raise ConfigError(
            f"{name}(threshold={threshold}, rest={rest}, reset={reset!r}): a soft reset takes threshold - rest off the "
            "potential, so rest must be below the threshold; a hard reset sets the potential to 0 and ignores rest. "
            "Use reset='subtract' with rest < threshold, or rest=0."
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
