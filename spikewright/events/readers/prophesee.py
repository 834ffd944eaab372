"""The text header of files of Prophesee: lines that begin with a percent sign."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikewright.events.readers.content import Array, Content, check_size, content_of, header_lines

_LINE = rb"%(?: [\t -~]*)?\r?\n"
"""Printable, so that binary data that happens to begin with a percent sign is no header."""
_END = rb"% end\r?\n"


@dataclass(frozen=True)
class Header:
    """What the text header says.

    Args:
        lines: Lines without the percent sign.
        start: Position of the first byte after the header.
        version: Version of EVT, such as "3.0"; `None` if none is named, as in DAT.
        height: Rows of the sensor, or `None`.
        width: Columns of the sensor, or `None`.
    """

    lines: list[str]
    start: int
    version: str | None
    height: int | None
    width: int | None


def opened(
    reader: str, path: Path | str, version: str, height: int | None, width: int | None
) -> tuple[Content, int, tuple[int, int]]:
    """Return a file of one version of EVT, the position of its first word, and the height and width of its sensor.

    Args:
        reader: Name of the reader, for messages.
        path: The file.
        version: The version, such as "3.0".
        height: Rows of the sensor; `None` for what the header says.
        width: Columns of the sensor, likewise.

    Raises:
        DatasetCorrupt: It is of another encoding, or says no size.
        ConfigError: `height` or `width` is not a whole number of at least 1.
    """
    check_size(reader, height, width)
    content = content_of(path, f"Prophesee EVT {version}")
    found = header(content)
    _check_version(content, found, version)
    return content, found.start, size_of(content, found, height, width)


def header(content: Content) -> Header:
    """Return the header of a file of Prophesee; without one, `lines` is empty.

    Raises:
        DatasetCorrupt: It contradicts itself.
    """
    end = re.search(rb"(?:^|\n)" + _END, content.data[: 2**16])
    lines, start = header_lines(content, _LINE)
    if end is not None and end.end() <= start:
        start = end.end()  # data that looks like a line may follow
    lines = [line[1:].strip() for line in lines]
    fields = dict[str, str]()
    for line in lines:
        name, _, value = line.partition(" ")
        fields.setdefault(name.lower(), value.strip())
    parts = fields.get("format", "").split(";")
    fields |= {name: value for name, _, value in (part.partition("=") for part in parts[1:])}
    named = {"EVT2": "2.0", "EVT21": "2.1", "EVT3": "3.0"}.get(parts[0])
    geometry = re.fullmatch(r"(\d{1,5})x(\d{1,5})", fields.get("geometry", ""))
    width, height = geometry.groups() if geometry else (None, None)
    return Header(
        lines,
        start,
        _agreed(content, "versions of EVT", named, fields.get("evt")),
        _number(_agreed(content, "heights", height, fields.get("height"))),
        _number(_agreed(content, "widths", width, fields.get("width"))),
    )


def _agreed(content: Content, what: str, *said: str | None) -> str | None:
    """Return what the header says at one place or at several.

    Raises:
        DatasetCorrupt: It says different things.
    """
    found = [each for each in said if each is not None]
    if len(set(found)) > 1:
        raise content.wrong(0, f"the header says two {what}: {' and '.join(found)}")
    return found[0] if found else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[1-9][0-9]{0,4}", text) else None


def size_of(content: Content, found: Header, height: int | None, width: int | None) -> tuple[int, int]:
    """Return the height and width of the sensor: those that were given, or those of the header.

    Raises:
        DatasetCorrupt: Neither is there.
    """
    height, width = height or found.height, width or found.width
    if height is None or width is None:
        raise content.wrong(
            found.start, "the header ends without the size of the sensor", "Give the height and width of the sensor."
        )
    return height, width


def check_kinds(content: Content, start: int, kinds: Array, size: int, known: frozenset[int]) -> None:
    """Raise `DatasetCorrupt` at the first word of a type that the format does not have.

    Args:
        content: The file.
        start: Position of the first word.
        kinds: Types of the words, from 0 to 15.
        size: Bytes of a word.
        known: Types of the format.
    """
    allowed = np.zeros(16, bool)
    allowed[list(known)] = True
    strange = ~allowed[kinds]
    if strange.any():
        place = int(strange.argmax())
        raise content.wrong(start + size * place, f"a word has the reserved type {int(kinds[place])}")


def _check_version(content: Content, found: Header, wanted: str) -> None:
    """Raise `DatasetCorrupt` unless the header names a version of EVT, and words of low bytes first."""
    if found.version != wanted:
        names = f"EVT {found.version}" if found.version else "no version of EVT"
        raise content.wrong(0, f"the header names {names}", "Use spikewright.events.read, which looks at the header.")
    for line in found.lines:
        if line.split()[:1] == ["endianness"] and line.split()[1:] != ["little"]:
            raise content.wrong(0, f"the header says {line!r}", "Record with the low byte first.")
