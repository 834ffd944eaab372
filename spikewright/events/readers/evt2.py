"""Prophesee EVT 2.0: words of 32 bits."""

from pathlib import Path

import numpy as np

from spikewright.events.readers.clock import ticking
from spikewright.events.readers.prophesee import check_kinds, opened
from spikewright.events.recording import Events

_OFF, _ON, _TIME_HIGH, _TRIGGER, _OTHERS, _CONTINUED = 0x0, 0x1, 0x8, 0xA, 0xE, 0xF
_KNOWN = frozenset({_OFF, _ON, _TIME_HIGH, _TRIGGER, _OTHERS, _CONTINUED})


def read_evt2(path: Path | str, height: int | None = None, width: int | None = None) -> Events:
    r"""Read a `.raw` file of Prophesee with the encoding EVT 2.0.

    After text lines that begin with `%`, each word of 32 bits, low byte first, has its type in bits 28 to 31.  An
    event (type 0: brightness fell, 1: rose) has y in bits 0 to 10, x in 11 to 21, and the low 6 bits of its time in
    microseconds in 22 to 27.  A word of type 8 gives the upper 28 bits for the events after it.  Times are as the
    camera wrote them, without a shift to 0, and are continued across their overflow after 4.8 hours.

    Triggers (type 10), other words (14, 15), and events before the first time word are left out and counted in
    `left_out`.  A cut between two words cannot be told from the end of the file.

    Args:
        path: The file.
        height: Rows of the sensor, at least 1.  Default: None, what the header says.
        width: Columns of the sensor, at least 1.  Default: None, what the header says.

    Raises:
        DatasetCorrupt: The file is cut, of another encoding, says no size, has a word of a reserved type or an event
            outside of the sensor, or its clock runs back; with the byte.
        ConfigError: `height` or `width` is not a whole number of at least 1.

    Reference:
        Prophesee, Metavision SDK documentation, data encoding formats: EVT 2.0.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_evt2
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "street.raw")
    ...     words = [8 << 28, 1 << 28 | 50 << 22 | 4 << 11 | 9]
    ...     data = b"".join(word.to_bytes(4, "little") for word in words)
    ...     _ = path.write_bytes(b"% evt 2.0\n% geometry 640x480\n% end\n" + data)
    ...     events = read_evt2(path)
    >>> events.t, events.x, events.y, events.p
    (array([50]), array([4], dtype=int32), array([9], dtype=int32), array([1], dtype=uint8))
    """
    content, start, size = opened("read_evt2", path, "2.0", height, width)
    words = content.words(start, "<u4")
    kinds = (words >> 28).astype(np.uint8)
    check_kinds(content, start, kinds, 4, _KNOWN)
    clocks = np.flatnonzero(kinds == _TIME_HIGH)
    high = ticking(content, words[clocks] & 0xFFF_FFFF, 2**28, 64, start + 4 * clocks)
    events = np.flatnonzero(kinds <= _ON)
    clock = np.searchsorted(clocks, events) - 1
    timeless = int((clock < 0).sum())
    events, clock = events[timeless:], clock[timeless:]
    word = words[events].astype(np.int64)
    x, y = word >> 11 & 0x7FF, word & 0x7FF
    content.check_pixels(x, y, size, start + 4 * events)
    counts = {
        "triggers": int((kinds == _TRIGGER).sum()),
        "other words": int((kinds >= _OTHERS).sum()),
        "events before the first time": timeless,
    }
    t = high[clock] * 64 + (word >> 22 & 0x3F)
    return Events(t, x, y, kinds[events], *size, left_out={name: count for name, count in counts.items() if count})
