"""Every error the library raises on purpose.

A message has four parts: what was asked, what was found, why that cannot work, and what to do.
"""

from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DatasetCorrupt",
    "DatasetMissing",
    "ExtensionError",
    "IncompatibleRule",
    "InputError",
    "NetworkError",
    "NotConverged",
    "NotFinite",
    "OutsideRun",
    "ShapeError",
    "SpikewrightError",
]


class SpikewrightError(Exception):
    """Base of the family, for callers who want to catch all of it."""


class ShapeError(SpikewrightError, ValueError):
    """A tensor has the wrong layout, size or type for the place it arrived at."""


class InputError(SpikewrightError, ValueError):
    """The data cannot be learned from: non-finite values, labels out of range, an empty loader."""


class NetworkError(SpikewrightError, ValueError):
    """The module cannot be run as a spiking network."""


class IncompatibleRule(SpikewrightError, ValueError):
    """The rule cannot work with this network or this loss."""


class ExtensionError(SpikewrightError, TypeError):
    """A method of a rule, a neuron or another class of one's own returned something else than it has to."""


class OutsideRun(SpikewrightError, RuntimeError):
    """A neuron was called by itself, without a run that holds its state."""


class NotFinite(SpikewrightError, RuntimeError):
    """Training produced a NaN or an infinity; the message names where it appeared first."""


class NotConverged(SpikewrightError, RuntimeError):
    """An equation was not solved as well as was asked for; the message says how far it is off, and why."""


class DatasetMissing(SpikewrightError, FileNotFoundError):
    """A data file is not where it was expected."""


class DatasetCorrupt(SpikewrightError, ValueError):
    """A data file is there but does not hold what it should."""


class CheckpointError(SpikewrightError, ValueError):
    """A checkpoint is truncated, foreign, altered, or belongs to another configuration."""


class ConfigError(SpikewrightError, ValueError):
    """A configuration names something that does not exist or has the wrong type."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the sentence that helps after an unknown `name`: the nearest known one, or all of them.

    >>> nearest("oott", ["bptt", "ottt", "sltt"])
    "Did you mean 'ottt'? Known: bptt, ottt, sltt."
    """
    from difflib import get_close_matches  # takes longer to import than all of this file

    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(known)}."


def __dir__() -> list[str]:
    return __all__
