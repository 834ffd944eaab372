"""Checks of arguments against the range, or the class, that the documentation states."""

import math
import operator
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError

_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "[": operator.ge,
    "(": operator.gt,
    "]": operator.le,
    ")": operator.lt,
}


def check_count(owner: str, name: str, value: object, why: str, least: int = 1) -> None:
    """Raise `ConfigError` unless an argument is a whole number, and large enough.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        why: Clause that says what the number counts, or why it is bounded.
        least: Smallest number that is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise _refusal(owner, name, value, why, f"a whole number, at least {least}")


def check_seed(owner: str, seed: object) -> None:
    """Raise `ConfigError` unless a seed is a whole number, at least 0."""
    check_count(owner, "seed", seed, "a seed numbers a stream of random numbers", least=0)


def check_within(owner: str, name: str, value: object, interval: str, why: str) -> None:
    """Raise `ConfigError` unless an argument is one number in an interval.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        interval: Interval as in mathematics, such as "[0, 1)" or "(0, inf)".
        why: Clause that says what the number is, or why it is bounded.
    """
    low, high = map(float, interval[1:-1].split(","))
    above, below = _BOUNDS[interval[0]], _BOUNDS[interval[-1]]
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not (above(number, low) and below(number, high)):
        raise _refusal(owner, name, value, why, _number_in(interval, low, high))


def check_flag(owner: str, **flags: object) -> None:
    """Raise `ConfigError` unless arguments, given by name, are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            why = f"{name} is either on or off, and Python counts most other values as True, the text 'no' too"
            raise _refusal(owner, name, value, why, "True or False")


def check_instance(owner: str, name: str, value: object, kind: type, example: str) -> None:
    """Raise `ConfigError` unless an argument is an instance of a class.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        kind: Class that the argument must be an instance of.
        example: Expression that makes such an instance.
    """
    if isinstance(value, kind):
        return
    advice = f"an instance of {kind.__name__}, such as {example}"
    if isinstance(value, type) and issubclass(value, kind):
        advice = f"an instance, such as {value.__name__}()"
    raise _refusal(owner, name, value, f"{name} has to be an object of the class {kind.__name__}", advice)


def _refusal(owner: str, name: str, value: object, why: str, advice: str) -> ConfigError:
    text = value.__name__ if isinstance(value, type) else shown(value)
    found = f"the class {text}" if isinstance(value, type) else kind_of(value)
    told = "" if isinstance(value, Real) and not isinstance(value, bool | np.bool_) else f", but this is {found}"
    return ConfigError(f"{owner}({name}={text}): {why}{told}. Give {advice}.")


def _number_in(interval: str, low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"a number in {interval}"
    if math.isfinite(low):
        return f"a finite number, {'at least' if interval[0] == '[' else 'above'} {low:g}"
    return "a finite number"


def single(value: object) -> object:
    """Return the number in a tensor of one entry; anything else unchanged."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
