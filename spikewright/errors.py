"""Every error that the library raises on purpose.

A message has four parts: what was asked, what was found, why that cannot work, and what to do.
"""

from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "ConversionError",
    "DatasetCorrupt",
    "DatasetMissing",
    "ExtensionError",
    "IncompatibleRule",
    "InputError",
    "NetworkError",
    "NotConverged",
    "NotFinite",
    "OutsideRun",
    "ProcessLost",
    "ShapeError",
    "SpikewrightError",
]


class SpikewrightError(Exception):
    """Base of all errors of the library, to catch any of them."""


class ShapeError(SpikewrightError, ValueError):
    """A tensor has the wrong layout, size or type for its use; also a `ValueError`."""


class InputError(SpikewrightError, ValueError):
    """The data cannot be learned from: non-finite values, labels out of range, an empty loader; also a `ValueError`."""


class NetworkError(SpikewrightError, ValueError):
    """The module cannot be run as a spiking network; also a `ValueError`."""


class IncompatibleRule(SpikewrightError, ValueError):
    """The rule cannot work with this network or this loss; also a `ValueError`."""


class ConversionError(SpikewrightError, ValueError):
    """A model of another library has no exact equal here, or was not shown to be equal; also a `ValueError`."""


class ExtensionError(SpikewrightError, TypeError):
    """A method of a user-defined rule, neuron or other class broke its contract; also a `TypeError`."""


class OutsideRun(SpikewrightError, RuntimeError):
    """A neuron was called outside of a run, which holds its state; also a `RuntimeError`."""


class NotFinite(SpikewrightError, RuntimeError):
    """Training produced a NaN or an infinity; the message names where it appeared first; also a `RuntimeError`."""


class NotConverged(SpikewrightError, RuntimeError):
    """An equation was not solved as accurately as asked for; the message says why; also a `RuntimeError`."""


class DatasetMissing(SpikewrightError, FileNotFoundError):
    """A data file is not where it was expected; also a `FileNotFoundError`."""


class DatasetCorrupt(SpikewrightError, ValueError):
    """A data file exists but does not hold what it should; also a `ValueError`."""


class CheckpointError(SpikewrightError, ValueError):
    """A checkpoint is truncated, foreign, altered, or belongs to another configuration; also a `ValueError`."""


class ProcessLost(SpikewrightError, RuntimeError):
    """A process that shares the work has ended, or never joined; also a `RuntimeError`."""


class ConfigError(SpikewrightError, ValueError):
    """An argument or a setting is unknown, out of its range or of the wrong type; also a `ValueError`."""


def nearest(name: object, known: Iterable[str], similar: float = 0.6) -> str:
    """Return the sentence to show after an unknown `name`: the most similar known name, and all of them.

    Args:
        name: The unknown name, or what was given in place of one.
        known: The known names.
        similar: Least similarity of a name that is suggested, in (0, 1]. Default: 0.6.

    Examples:
        >>> nearest("oott", ["bptt", "ottt", "sltt"])
        "Did you mean 'ottt'? Known: bptt, ottt, sltt."
    """
    from difflib import get_close_matches  # takes longer to import than all of this file

    known = sorted(known)
    bare = {flag.lstrip("-"): flag for flag in known}  # the dashes of all flags would make any two of them similar
    close = get_close_matches(name.lstrip("-"), bare, n=1, cutoff=similar) if isinstance(name, str) else []
    guess = f"Did you mean '{bare[close[0]]}'? " if close else ""
    return f"{guess}Known: {', '.join(known)}."


def __dir__() -> list[str]:
    return __all__
