"""`spikewright list`."""

import shutil
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

from spikewright.cli.catalogue import Entry, Kind, is_outdated, stored
from spikewright.cli.common import check_writable, write_json


def list_components(kind: Kind, json: Path | None = None, quiet: bool = False) -> dict[str, Entry]:
    """List what a configuration can name, with the arguments that --set reaches.

    Args:
        kind: What to list.
        json: Also write the list to this file.
        quiet: Print nothing.

    Returns:
        By name: `summary` and `arguments` with their defaults.
    """
    check_writable(json)
    listed = entries(kind)
    write_json(json, listed)
    if not quiet:
        print(_table(listed))
    return listed


def entries(kind: Kind) -> dict[str, Entry]:
    """Return all components of a kind, by name: as they are stored, or looked up if torch has others by now."""
    if not is_outdated(kind):
        return stored(kind)
    from spikewright.cli._components import described

    return described(kind)


def _table(listed: dict[str, Entry]) -> str:
    """Return a column of names beside one of summaries and arguments, as wide as the terminal."""
    column = max(map(len, listed)) + 2
    width = max(shutil.get_terminal_size().columns - column, 40)
    lines: list[str] = []
    for name, entry in listed.items():
        arguments = ", ".join(f"{key}={default}" for key, default in entry["arguments"].items())
        texts = [line for text in (entry["summary"], arguments) for line in wrap(text, width, break_on_hyphens=False)]
        lines += [f"{first:{column}}{text}".rstrip() for first, text in zip_longest([name], texts, fillvalue="")]
    return "\n".join(lines)
