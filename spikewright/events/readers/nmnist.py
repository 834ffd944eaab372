"""N-MNIST and N-Caltech101: five bytes for each event."""

from pathlib import Path

import numpy as np

from spikewright._util.ranges import check_counts
from spikewright.events.readers.content import content_of
from spikewright.events.recording import Events

_MARK = 240
_MARK_TIME = 8192


def read_nmnist(path: Path | str, height: int = 34, width: int = 34) -> Events:
    """Read a `.bin` file of N-MNIST or N-Caltech101.

    An event has 40 bits: 8 of x, 8 of y, 1 of polarity (1: brightness rose), and 23 of time in microseconds, high bits
    first.  An event at row 240 is none, but a mark: all later times are 8192 microseconds later.  Marks are counted in
    `left_out`.  The file has no header and no count, so a cut between two events cannot be told from its end.

    Args:
        path: The file, of at least one event.
        height: Rows of the sensor, from 1 to 240.  Default: 34, of N-MNIST.
        width: Columns of the sensor, from 1 to 256.  Default: 34, of N-MNIST.

    Raises:
        DatasetCorrupt: The file is cut within an event, has one outside of the sensor, or is empty; with the byte.
        ConfigError: The size is not one that the format can hold.

    Reference:
        Orchard, Jayawant, Cohen and Thakor, Converting Static Image Datasets to Spiking Neuromorphic Datasets Using
        Saccades, Frontiers in Neuroscience, 2015.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_nmnist
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "00002.bin")
    ...     _ = path.write_bytes(bytes([10, 20, 0x80, 0x01, 0x02, 11, 20, 0x00, 0x01, 0x05]))
    ...     events = read_nmnist(path)
    >>> events.t, events.x, events.p
    (array([258, 261]), array([10, 11], dtype=int32), array([1, 0], dtype=uint8))
    """
    check_counts("read_nmnist", most=_MARK, height=height)
    check_counts("read_nmnist", most=256, width=width)
    content = content_of(path, "events of N-MNIST, 5 bytes each")
    rows = content.words(0, np.dtype((np.uint8, 5))).astype(np.int64)
    mark = rows[:, 1] == _MARK
    t = ((rows[:, 2] & 0x7F) << 16) + (rows[:, 3] << 8) + rows[:, 4] + _MARK_TIME * np.cumsum(mark)
    content.check_pixels(rows[~mark, 0], rows[~mark, 1], (height, width), 5 * np.flatnonzero(~mark))
    marks = int(mark.sum())
    return Events(
        t[~mark],
        rows[~mark, 0],
        rows[~mark, 1],
        rows[~mark, 2] >> 7,
        height,
        width,
        left_out={"overflow marks": marks} if marks else {},
    )
