"""How many rows each task adds to the lateral weights of HLOP, and tables by the names of modules."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from spikewright.errors import ConfigError, nearest

Growth = float | Sequence[int]
"""Rows per task: a share of the inputs, a number, or a number for each task, of which the last also counts later."""
T = TypeVar("T")


def entry_for(what: str, table: Mapping[str, T], name: str) -> T:
    """Return the entry of a table for a module: the first whose name, which may contain `*`, matches."""
    for pattern, value in table.items():
        if fnmatchcase(name, pattern):
            return value
    raise ConfigError(
        f"HLOP({what}={dict(table)}) has no entry for '{name}', which is protected. {nearest(name, table)} Give it an "
        "entry, or one for '*', or leave the layer out with free."
    )


def rows_of(growth: Growth, task: int, size: int) -> int:
    """Return the number of rows that a task adds at a weight with `size` inputs."""
    if isinstance(growth, Sequence):
        growth = growth[min(task, len(growth) - 1)]
    return round(growth * size) if isinstance(growth, float) else growth


def check_rows(growth: Growth) -> None:
    """Raise `ConfigError` if `growth` is neither a share, a number of rows, nor a sequence of these."""
    numbers = list(growth) if isinstance(growth, list | tuple) else [growth]
    share = isinstance(growth, float) and 0 <= growth <= 1
    if not share and not (numbers and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers)):
        raise ConfigError(
            f"HLOP(rows={growth!r}): give a share of the inputs from 0.0 to 1.0, a number of rows, or a number for "
            "every task."
        )
