"""Prophesee DAT, version 2: eight bytes for each event."""

from pathlib import Path

import numpy as np

from spikewright.events.readers.clock import running_on
from spikewright.events.readers.content import check_size, content_of
from spikewright.events.readers.prophesee import header, size_of
from spikewright.events.recording import Events

_KINDS = (0, 12)
"""Codes of events with x, y and polarity."""


def read_dat(path: Path | str, height: int | None = None, width: int | None = None) -> Events:
    r"""Read a DAT file of version 2 by Prophesee.

    After text lines that begin with `%`, two bytes say the type of the events (0 or 12) and their size (8).  An event
    has 32 bits of time in microseconds, and 32 bits of which 0 to 13 are x, 14 to 27 are y, and 28 to 31 are the
    polarity (1: brightness rose); low byte first.  Times are continued across their overflow after 71.6 minutes.
    Events need not be in order.  A cut between two events cannot be told from the end of the file.

    Args:
        path: The file.
        height: Rows of the sensor, at least 1.  Default: None, what the header says.
        width: Columns of the sensor, at least 1.  Default: None, what the header says.

    Raises:
        DatasetCorrupt: The file is cut, of another version or type, says no size, has an event outside of the sensor
            or of another polarity, or its times jump ahead by 36 minutes or more; with the byte.
        ConfigError: `height` or `width` is not a whole number of at least 1.

    Reference:
        Prophesee, Metavision SDK documentation, data file formats: DAT.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_dat
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "cars_td.dat")
    ...     event = (50).to_bytes(4, "little") + (1 << 28 | 9 << 14 | 4).to_bytes(4, "little")
    ...     _ = path.write_bytes(b"% Version 2\n% Height 240\n% Width 304\n" + bytes([12, 8]) + event)
    ...     events = read_dat(path)
    >>> events.t, events.x, events.y, events.p
    (array([50]), array([4], dtype=int32), array([9], dtype=int32), array([1], dtype=uint8))
    """
    check_size("read_dat", height, width)
    content = content_of(path, "Prophesee DAT of version 2")
    found = header(content)
    if not found.lines or found.version is not None:
        raise content.wrong(0, f"it starts with {content.data[:12]!r}, not with the header of a DAT file")
    for line in found.lines:
        if line.lower().startswith("version ") and line.split()[1:] != ["2"]:
            raise content.wrong(0, f"the header says {line!r}", "Convert it to version 2.")
    code = content.data[found.start : found.start + 2]
    if len(code) < 2 or code[0] not in _KINDS or code[1] != 8:
        raise content.wrong(found.start, f"type and size of the events are {list(code)}, not [0 or 12, 8]")
    size = size_of(content, found, height, width)
    start = found.start + 2
    pairs = content.words(start, np.dtype(("<u4", 2))).astype(np.int64)
    offsets = range(start, len(content.data), 8)
    x, y, p = pairs[:, 1] & 0x3FFF, pairs[:, 1] >> 14 & 0x3FFF, pairs[:, 1] >> 28
    content.check_pixels(x, y, size, offsets)
    if (p > 1).any():
        first = int((p > 1).argmax())
        raise content.wrong(offsets[first], f"event {first} has the polarity {int(p[first])}, which is not 0 or 1")
    return Events(running_on(content, pairs[:, 0], 2**32, offsets), x, y, p, *size)
