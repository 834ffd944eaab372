"""Checks of arguments against the range, or the class, that the documentation states."""

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from spikewright._util.arguments import in_single_precision, shown
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, nearest

MOST = 10**6
"""Largest number of a count that makes work: steps of a loop, or entries along an axis. More is a slip of the pen."""
LAST_SEED = 2**63 - 1
"""Largest seed, that of a signed whole number of 64 bits."""
_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "[": operator.ge,
    "(": operator.gt,
    "]": operator.le,
    ")": operator.lt,
}


def check_count(owner: str, name: str, value: object, why: str, least: int = 1, most: int | None = None) -> None:
    """Raise `ConfigError` unless an argument is a whole number in a range.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        why: Clause that says what the number counts, or why it is bounded.
        least: Smallest number that is allowed.
        most: Largest number that is allowed, or `None`.
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if number is None or number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {_power(most)}"
        raise _refusal(owner, name, value, why, f"a whole number, {bounds}")


def check_counts(
    owner: str, least: int = 1, most: int | None = None, *, optional: bool = False, **counts: object
) -> None:
    """Raise `ConfigError` unless arguments, given by name, are whole numbers in a range.

    Args:
        owner: Name of the class or function that takes the arguments.
        least: Smallest number that is allowed.
        most: Largest number that is allowed, or `None`.
        optional: True allows `None` too.
        **counts: Arguments by name.
    """
    for name, value in counts.items():
        if value is not None or not optional:
            check_count(owner, name, value, f"{name} is a number of things", least, most)


def check_sizes(owner: str, least: int = 1, most: int = MOST, **sizes: object) -> None:
    """Raise `ConfigError` unless arguments, given by name, are sequences of whole numbers in a range."""
    for name, values in sizes.items():
        for value in check_row(owner, name, values):
            check_count(owner, name, value, f"each entry of {name} is a number of things", least, most)


def check_row(owner: str, name: str, values: object, example: str = "(64, 128)") -> Sequence[Any]:
    """Return an argument, or raise `ConfigError` unless it is a sequence; what it holds is not checked.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        values: Value of the argument.
        example: Such a sequence.  Default: "(64, 128)".
    """
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise _refusal(owner, name, values, f"{name} is a sequence", f"one such as {example}")
    return values


def check_names(owner: str, name: str, values: object, example: str) -> tuple[str, ...]:
    """Return an argument as a tuple, or raise `ConfigError` unless it is a collection of texts.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        values: Value of the argument.
        example: Such a collection.
    """
    if isinstance(values, Collection) and not isinstance(values, str | bytes | Tensor):
        found: Collection[Any] = values
        if all(isinstance(value, str) for value in found):
            return tuple(found)
    raise _refusal(owner, name, values, f"{name} is a collection of texts", f"one such as {example}")


def check_seed(owner: str, seed: object, name: str = "seed") -> None:
    """Raise `ConfigError` unless a seed is a whole number from 0 to 2**63 - 1."""
    check_count(owner, name, seed, "a seed numbers a stream of random numbers", 0, LAST_SEED)


def check_within(owner: str, name: str, value: object, interval: str, why: str) -> None:
    """Raise `ConfigError` unless an argument is one number in an interval.

    Args:
        owner: Name of the class or function that takes the argument.
        name: Name of the argument.
        value: Value of the argument.
        interval: Interval as in mathematics, such as "[0, 1)" or "(0, inf)".
        why: Clause that says what the number is, or why it is bounded.
    """
    if not is_within(value, interval):
        number = as_float(value)
        if in_single_precision(number) != number and not math.isnan(number):
            why = "single precision, in which networks compute, holds numbers up to 3.4e38"
        raise _refusal(owner, name, value, why, _number_in(interval))


def is_within(value: object, interval: str) -> bool:
    """True for one real number in an interval such as "[0, 1)"; a NaN is in none, nor is a boolean.

    Numbers that are too large for single precision count as infinite.

    >>> is_within(1, "[0, 1)"), is_within(0.5, "[0, 1)"), is_within(float("nan"), "(-inf, inf)")
    (False, True, False)
    >>> is_within(1e300, "(0, inf)")
    False
    """
    low, high = _ends(interval)
    number = in_single_precision(as_float(value))
    return _BOUNDS[interval[0]](number, low) and _BOUNDS[interval[-1]](number, high)


def _ends(interval: str) -> tuple[float, float]:
    low, high = map(float, interval[1:-1].split(","))
    return low, high


def check_numbers(owner: str, interval: str, *, optional: bool = False, **numbers: object) -> None:
    """Raise `ConfigError` unless arguments, given by name, are numbers in an interval.

    Args:
        owner: Name of the class or function that takes the arguments.
        interval: Interval as in mathematics, such as "[0, 1)" or "(0, inf)".
        optional: True allows `None` too.
        **numbers: Arguments by name.
    """
    for name, value in numbers.items():
        if value is not None or not optional:
            check_within(owner, name, value, interval, f"nothing can be computed with another {name}")


def as_float(value: object) -> float:
    """Return a real number as a float, infinite if it is too large for one; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value == abs(value) else -math.inf


def check_choice(owner: str, name: str, value: object, known: Iterable[str]) -> None:
    """Raise `ConfigError` unless an argument is one of some texts."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"{owner}({name}={shown(value)}) is unknown. {nearest(value, known)}")


def check_known(what: str, name: object, known: Iterable[str]) -> None:
    """Raise `ConfigError` unless a name is one of those that are known.

    Args:
        what: What is named, such as "The data set".
        name: The name.
        known: The known names.
    """
    known = tuple(known)
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{what} {shown(name)} is unknown. {nearest(name, known)}")


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


def _number_in(interval: str) -> str:
    low, high = _ends(interval)
    if math.isfinite(low) and math.isfinite(high):
        return f"a number in {interval}"
    if math.isfinite(low):
        return f"a finite number, {'at least' if interval[0] == '[' else 'above'} {low:g}"
    return "a finite number"


def _power(number: int) -> str:
    """Return a number as text, as a power where it is one, or one less.

    >>> _power(1000000), _power(100), _power(255), _power(2**63 - 1)
    ('10**6', '100', '255', '2**63 - 1')
    """
    if number > MOST and (number + 1).bit_count() == 1:
        return f"2**{number.bit_length()} - 1"
    text = str(number)
    return f"10**{len(text) - 1}" if len(text) > 4 and text.strip("0") == "1" else text


def single(value: object) -> object:
    """Return the number in a tensor of one entry; anything else unchanged."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
