"""Bytes of an event file, and errors that say at which of them something is wrong."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewright._util.ranges import check_counts
from spikewright._util.reading import check_regular
from spikewright.data.files import read_bytes, unreadable
from spikewright.errors import DatasetCorrupt

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Content:
    """What a file holds, and as what it is read.

    Args:
        path: The file, for messages.
        kind: Name of the format, for messages.
        data: All bytes, at least one.
    """

    path: Path
    kind: str
    data: bytes

    def wrong(
        self, offset: int, found: str, advice: str = "Fetch the file again, or record it anew."
    ) -> DatasetCorrupt:
        """Return the error that the file is not what it was read as, from a byte on.

        Args:
            offset: Position of that byte, from 0.
            found: What is there, as the end of a sentence.
            advice: What to do.
        """
        return DatasetCorrupt(
            f"{self.path} was read as {self.kind}, but at byte {offset} {found}. Nothing of the file is used, because "
            f"events around such a place may be wrong too. {advice}"
        )

    def words(self, start: int, kind: str | np.dtype[Any], stop: int | None = None) -> Array:
        """Return the bytes from `start` as an array of words or records.

        Args:
            start: Position of the first byte.
            kind: Type of a word, such as "<u2", or of a record.
            stop: Position after the last byte.  Default: None, the end of the file.

        Raises:
            DatasetCorrupt: The last word is not whole.
        """
        kind = np.dtype(kind)
        stop = len(self.data) if stop is None else stop
        left = (stop - start) % kind.itemsize
        if left:
            raise self.wrong(stop - left, f"its last {left} bytes are no whole word of {kind.itemsize}: it was cut")
        return np.frombuffer(self.data, kind, (stop - start) // kind.itemsize, start)

    def check_pixels(self, x: Array, y: Array, size: tuple[int, int], offsets: Array | range) -> None:
        """Raise `DatasetCorrupt` at the first event that lies outside of the sensor.

        Args:
            x: Columns `[n]`.
            y: Rows `[n]`.
            size: Height and width of the sensor.
            offsets: Position of the first byte of each event, `[n]`.
        """
        outside = (x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0])
        if outside.any():
            first = int(outside.argmax())
            raise self.wrong(
                int(offsets[first]),
                f"event {first} is at x={int(x[first])}, y={int(y[first])}, outside of {size[1]} columns and "
                f"{size[0]} rows",
                "Fetch the file again, or give the height and width of the sensor that recorded it.",
            )

    def check_times(self, t: Array, offsets: Array | range) -> None:
        """Raise `DatasetCorrupt` at the first event whose time is below 0."""
        if len(t) and t.min() < 0:
            first = int((t < 0).argmax())
            raise self.wrong(int(offsets[first]), f"event {first} has the time {int(t[first])}, which is below 0")


def content_of(path: Path | str, kind: str, most: int | None = None) -> Content:
    """Read a file of events.

    Args:
        path: The file.
        kind: Name of the format, for messages.
        most: Number of bytes to read from its beginning, at least 1.  Default: None, all.

    Raises:
        DatasetCorrupt: It cannot be read, is larger than 1 GiB, or holds no byte.
    """
    path = Path(path)
    content = Content(path, kind, read_bytes(path) if most is None else _beginning(path, most))
    if not content.data:
        raise content.wrong(0, "it ends: the file is empty, which no recording is", "Fetch the file again.")
    return content


def _beginning(path: Path, most: int) -> bytes:
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise unreadable(path, error) from error


def header_lines(content: Content, line: bytes) -> tuple[list[str], int]:
    """Return the lines of a text header, and the position of the first byte after them.

    Args:
        content: The file.
        line: Regular expression of one line, its end included.
    """
    lines, position, pattern = list[str](), 0, re.compile(line)
    while (match := pattern.match(content.data, position)) is not None:
        lines.append(match.group().decode("latin-1").strip())
        position = match.end()
    return lines, position


def check_size(owner: str, height: int | None, width: int | None) -> None:
    """Raise `ConfigError` unless a height and a width are whole numbers from 1 to 65536, or None."""
    check_counts(owner, most=65536, optional=True, height=height, width=width)
