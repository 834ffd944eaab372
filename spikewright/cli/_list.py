"""`spikewright list`."""

import shutil
import textwrap
from pathlib import Path

from spikewright.cli.catalogue import Entry, Kind, entries
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


def _table(listed: dict[str, Entry]) -> str:
    """Return a column of names beside one of summaries and arguments, as wide as the terminal."""
    column = max(map(len, listed)) + 2
    width = max(shutil.get_terminal_size().columns, column + 40)
    lines: list[str] = []
    for name, entry in listed.items():
        arguments = ", ".join(f"{key}={default}" for key, default in entry["arguments"].items())
        for text, first in ((entry["summary"], name), (arguments, "")):
            lines += textwrap.wrap(text, width, initial_indent=first.ljust(column), subsequent_indent=" " * column)
    return "\n".join(lines)
