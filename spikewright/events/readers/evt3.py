"""Prophesee EVT 3.0: words of 16 bits that change a state."""

from pathlib import Path

import numpy as np

from spikewright.events.readers.clock import ticking
from spikewright.events.readers.content import Array, Content
from spikewright.events.readers.prophesee import check_kinds, opened
from spikewright.events.recording import Events

_ROW, _EVENT, _BASE, _VECTOR_12, _VECTOR_8 = 0x0, 0x2, 0x3, 0x4, 0x5
_TIME_LOW, _CONTINUED_4, _TIME_HIGH, _TRIGGER, _OTHERS, _CONTINUED_12 = 0x6, 0x7, 0x8, 0xA, 0xE, 0xF
_REST = [_CONTINUED_4, _OTHERS, _CONTINUED_12]
_KNOWN = frozenset(
    {_ROW, _EVENT, _BASE, _VECTOR_12, _VECTOR_8, _TIME_LOW, _TIME_HIGH, _TRIGGER, *_REST},
)


def read_evt3(path: Path | str, height: int | None = None, width: int | None = None) -> Events:
    r"""Read a `.raw` file of Prophesee with the encoding EVT 3.0.

    After text lines that begin with `%`, each word of 16 bits, low byte first, has its type in bits 12 to 15.  Type 0
    sets the row (bits 0 to 10).  Type 2 is an event with x in bits 0 to 10 and its polarity in bit 11 (1: brightness
    rose).  Type 3 sets x and polarity of the vectors after it; types 4 and 5 are vectors with one bit for each of 12
    or 8 columns, after which x is 12 or 8 further.  Type 8 sets the upper 12 bits of the time in microseconds and its
    lower ones to 0, as in the decoder of the maker; type 6 sets the lower 12 bits.

    Times are as the camera wrote them, without a shift to 0.  They are continued across each overflow after 16.8
    seconds, also if the words of type 8 around it are not adjacent numbers; only a silence of more than 12.6 seconds
    is refused, since nobody can tell it from a step back, and one of 16.8 seconds or more is invisible.

    Triggers (type 10), other words (7, 14, 15), and events before the first time, row or base are left out and counted
    in `left_out`.  A cut between two words cannot be told from the end of the file.

    Args:
        path: The file.
        height: Rows of the sensor, at least 1.  Default: None, what the header says.
        width: Columns of the sensor, at least 1.  Default: None, what the header says.

    Raises:
        DatasetCorrupt: The file is cut, of another encoding, says no size, has a word of a reserved type or an event
            outside of the sensor, or its clock runs back; with the byte.
        ConfigError: `height` or `width` is not a whole number of at least 1.

    Reference:
        Prophesee, Metavision SDK documentation, data encoding formats: EVT 3.0.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_evt3
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "street.raw")
    ...     words = [0x8000, 0x6000 | 50, 9, 0x2000 | 1 << 11 | 4]
    ...     data = b"".join(word.to_bytes(2, "little") for word in words)
    ...     _ = path.write_bytes(b"% evt 3.0\n% geometry 1280x720\n% end\n" + data)
    ...     events = read_evt3(path)
    >>> events.t, events.x, events.y, events.p
    (array([50]), array([4], dtype=int32), array([9], dtype=int32), array([1], dtype=uint8))
    """
    content, start, size = opened("read_evt3", path, "3.0", height, width)
    words = content.words(start, "<u2")
    kinds, values = (words >> 12).astype(np.uint8), (words & 0xFFF).astype(np.int64)
    check_kinds(content, start, kinds, 2, _KNOWN)
    places, x, p, based = _pixels(kinds, values)
    rows = np.flatnonzero(kinds == _ROW)
    row = np.searchsorted(rows, places) - 1
    t, timed = _times(content, start, kinds, values, places)
    known = based & timed & (row >= 0)
    counts = {
        "triggers": int((kinds == _TRIGGER).sum()),
        "other words": int(np.isin(kinds, _REST).sum()),
        "events before the first time, row or base": int((~known).sum()),
    }
    y = values[rows[row[known]]] & 0x7FF
    content.check_pixels(x[known], y, size, start + 2 * places[known])
    left_out = {name: count for name, count in counts.items() if count}
    return Events(t[known], x[known], y, p[known], *size, left_out=left_out)


def _pixels(kinds: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Return place, x, polarity of all events, in order, and whether a base stands before those of vectors."""
    singles = np.flatnonzero(kinds == _EVENT)
    vectors = np.flatnonzero((kinds == _VECTOR_12) | (kinds == _VECTOR_8))
    bases = np.flatnonzero(kinds == _BASE)
    columns = np.where(kinds[vectors] == _VECTOR_12, 12, 8)
    travelled = np.concatenate([[0], np.cumsum(columns)])
    base = np.searchsorted(bases, vectors) - 1
    origin = bases[base] if len(bases) else np.zeros_like(base)
    moved = travelled[:-1] - travelled[np.searchsorted(vectors, origin)]
    bits = (values[vectors, None] >> np.arange(12) & 1).astype(bool) & (np.arange(12) < columns[:, None])
    which, bit = np.nonzero(bits)
    setting = values[origin[which]]
    places = np.concatenate([singles, vectors[which]])
    order = np.argsort(places, kind="stable")
    x = np.concatenate([values[singles] & 0x7FF, (setting & 0x7FF) + moved[which] + bit])
    p = np.concatenate([values[singles] >> 11, setting >> 11])
    based = np.concatenate([np.ones(len(singles), bool), base[which] >= 0])
    return places[order], x[order], p[order], based[order]


def _times(content: Content, start: int, kinds: Array, values: Array, places: Array) -> tuple[Array, Array]:
    """Return the times of events at some places, and whether a time stands before them."""
    highs, lows = np.flatnonzero(kinds == _TIME_HIGH), np.flatnonzero(kinds == _TIME_LOW)
    high = ticking(content, values[highs], 2**12, 4096, start + 2 * highs)
    upper, lower = np.searchsorted(highs, places) - 1, np.searchsorted(lows, places) - 1
    timed = upper >= 0
    if not len(highs):
        return np.zeros(len(places), np.int64), timed
    newer = (lower >= 0) & (lows[lower] > highs[upper]) if len(lows) else np.zeros(len(places), bool)
    low = np.where(newer, values[lows[lower]], 0) if len(lows) else 0
    return high[upper] * 4096 + low, timed
