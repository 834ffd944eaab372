"""AEDAT 2.0 of a DVS128, as in CIFAR10-DVS: pairs of an address and a time."""

from pathlib import Path

import numpy as np

from spikewright.events.readers.clock import running_on
from spikewright.events.readers.content import content_of, header_lines
from spikewright.events.recording import Events

MAGIC = b"#!AER-DAT2.0"
_SPECIAL = 0x8000_8000


def read_aedat2(path: Path | str) -> Events:
    r"""Read an AEDAT 2.0 file of a DVS128 camera: 128 x 128 pixels, written by jAER.

    After header lines that begin with `#`, an event has an address and a time, 32 bits each, high byte first.  Of the
    address, bit 0 is 1 where brightness fell (so `p` is 1 - bit 0), bits 1 to 7 are x, and bits 8 to 14 are y.  x and
    y are returned as stored.  jAER shows column 127 - x, with row 0 at the bottom; SpikingJelly's CIFAR10-DVS has
    x = 127 - y and y = 127 - x of these, and the same polarity.

    Special events (bit 15 or 31, such as those of the sync input) are left out and counted in `left_out`.  An address
    with any other bit is of another camera, and refused.  Times are 32 bits of microseconds without a sign; they are
    continued across their overflow.  A cut between two events cannot be told from the end of the file.

    Args:
        path: The file.

    Raises:
        DatasetCorrupt: The file is cut, of another version or camera, or its times jump by 36 minutes or more; with
            the byte.

    Reference:
        Li, Liu, Ji, Li and Shi, CIFAR10-DVS: An Event-Stream Dataset for Object Classification, Frontiers in
        Neuroscience, 2017.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_aedat2
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "cifar10_cat_0.aedat")
    ...     address = 9 << 8 | 4 << 1 | 1
    ...     _ = path.write_bytes(b"#!AER-DAT2.0\r\n" + address.to_bytes(4, "big") + (50).to_bytes(4, "big"))
    ...     events = read_aedat2(path)
    >>> events.t, events.x, events.y, events.p
    (array([50]), array([4], dtype=int32), array([9], dtype=int32), array([0], dtype=uint8))
    """
    content = content_of(path, "AEDAT 2.0 of a DVS128")
    if not content.data.startswith(MAGIC):
        raise content.wrong(0, f"it starts with {content.data[:12]!r}, not with {MAGIC!r}")
    _, start = header_lines(content, rb"#[^\n]*\n")
    pairs = content.words(start, np.dtype((">u4", 2)))
    address, offsets = pairs[:, 0].astype(np.int64), range(start, len(content.data), 8)
    special = address & _SPECIAL != 0
    foreign = ~special & (address > 0x7FFF)
    if foreign.any():
        first = int(foreign.argmax())
        raise content.wrong(
            offsets[first],
            f"the address is 0x{int(address[first]):08x}, with bits that a DVS128 does not have",
            "Convert recordings of other cameras with the program that made them.",
        )
    t = running_on(content, pairs[:, 1], 2**32, offsets)[~special]
    address = address[~special]
    count = int(special.sum())
    return Events(
        t,
        address >> 1 & 0x7F,
        address >> 8 & 0x7F,
        1 - (address & 1),
        128,
        128,
        left_out={"special events": count} if count else {},
    )
