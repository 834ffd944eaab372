"""AEDAT 3.1, as in DVS-Gesture: packets with headers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikewright.events.readers.content import Array, Content, check_size, content_of, header_lines
from spikewright.events.recording import Events

MAGIC = b"#!AER-DAT3.1"
_PACKET = np.dtype(
    [("type", "<i2"), ("source", "<i2"), *((n, "<i4") for n in "size offset overflow capacity number valid".split())]
)
_POLARITY = 1
_KINDS = {0: "special events", 2: "frames", 3: "IMU samples", 4: "IMU samples", 5: "samples", 6: "ear events"}
_SIZES = {
    "DVS128": (128, 128),
    "DAVIS128": (128, 128),
    "DAVIS208": (192, 208),
    "DAVIS240A": (180, 240),
    "DAVIS240B": (180, 240),
    "DAVIS240C": (180, 240),
    "DAVIS346A": (260, 346),
    "DAVIS346B": (260, 346),
    "DAVIS346": (260, 346),
    "DAVIS640": (480, 640),
}
"""Height and width of sensors by the names that libcaer writes."""


def read_aedat3(path: Path | str, height: int | None = None, width: int | None = None) -> Events:
    r"""Read the polarity events of an AEDAT 3.1 file, as written by cAER.

    A header of lines with `#` ends with `#!END-HEADER`.  Packets follow, each with a header of 28 bytes (type, source,
    size of an event, offset of its time, overflow of the time, capacity, number, valid number; low byte first).  A
    polarity event has 32 bits of data (bit 0: valid, bit 1: brightness rose, bits 2 to 16: y, bits 17 to 31: x) and 31
    bits of time in microseconds, to which the overflow of the packet adds multiples of 2**31.  x and y are as stored.

    Events that the file marks as invalid, and packets of other types (special events, frames, inertial measurements),
    are left out and counted in `left_out`.  Events need not be in order.  A cut between two packets cannot be told
    from the end of the file.

    Args:
        path: The file.
        height: Rows of the sensor, at least 1.  Default: None, of the camera that the header names.
        width: Columns of the sensor, at least 1.  Default: None, of the camera that the header names.

    Raises:
        DatasetCorrupt: The file is cut, of another version, compressed, from several cameras, or a packet contradicts
            itself; with the byte.
        ConfigError: `height` or `width` is not a whole number of at least 1.

    Reference:
        Amir et al., A Low Power, Fully Event-Based Gesture Recognition System, CVPR, 2017.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read_aedat3
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "user01_led.aedat")
    ...     head = [(1, 2), (1, 2), (8, 4), (4, 4), (0, 4), (1, 4), (1, 4), (1, 4)]  # numbers and their bytes
    ...     words = [*head, (4 << 17 | 9 << 2 | 1 << 1 | 1, 4), (50, 4)]
    ...     data = b"".join(number.to_bytes(size, "little") for number, size in words)
    ...     _ = path.write_bytes(b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n" + data)
    ...     events = read_aedat3(path)
    >>> events.t, events.x, events.y, events.p
    (array([50]), array([4], dtype=int32), array([9], dtype=int32), array([1], dtype=uint8))
    """
    check_size("read_aedat3", height, width)
    content = content_of(path, "AEDAT 3.1")
    start, size = _header(content, height, width)
    bodies, others, source = list[tuple[int, Array, int]](), dict[str, int](), None
    while start < len(content.data):
        head, body = _packet(content, start)
        kind, number = int(head["type"]), int(head["number"])
        if kind == _POLARITY:
            if source not in (None, int(head["source"])):
                raise content.wrong(start, f"a packet is of source {int(head['source'])}, but others are of {source}")
            source = int(head["source"])
            bodies.append((start, *_events(content, start, head, body)))
        elif number:
            name = _KINDS.get(kind, f"events of type {kind}")
            others[name] = others.get(name, 0) + number
        start = body.stop
    return _joined(content, bodies, size, others)


def _header(content: Content, height: int | None, width: int | None) -> tuple[int, tuple[int, int]]:
    """Return where the packets begin, and the size of the sensor."""
    if not content.data.startswith(MAGIC):
        raise content.wrong(0, f"it starts with {content.data[:12]!r}, not with {MAGIC!r}")
    end = content.data.find(b"#!END-HEADER")
    close = content.data.find(b"\n", end)
    if end < 0 or close < 0:
        raise content.wrong(len(content.data), "it ends without the line #!END-HEADER")
    lines, _ = header_lines(replace(content, data=content.data[: close + 1]), rb"#[^\n]*\n")
    for line in lines:
        if line.startswith("#Format:") and line.partition(":")[2].strip() != "RAW":
            raise content.wrong(0, f"the header says {line!r}", "Export the recording in the format RAW.")
    sources = [line.partition(":")[2].strip() for line in lines if line.startswith("#Source ")]
    if height is None or width is None:
        known = {_SIZES[name] for name in sources if name in _SIZES}
        if len(known) != 1 or len(sources) != 1:
            raise content.wrong(
                0, f"the header names the cameras {sources}, whose size is not known here", "Give height and width."
            )
        found = known.pop()
        height, width = height or found[0], width or found[1]
    return close + 1, (height, width)


def _packet(content: Content, start: int) -> tuple[Any, range]:
    """Return the header of the packet at `start`, and the bytes of its events."""
    if len(content.data) - start < _PACKET.itemsize:
        raise content.wrong(start, f"the header of a packet has {len(content.data) - start} of 28 bytes: it was cut")
    head = np.frombuffer(content.data, _PACKET, 1, start)[0]
    size, capacity, number, valid = (int(head[name]) for name in ("size", "capacity", "number", "valid"))
    if size < 1 or not 0 <= valid <= number <= capacity or head["overflow"] < 0 or head["type"] < 0:
        raise content.wrong(start, f"the header of a packet says {head.item()}, which is none ({_PACKET.names})")
    stop = start + _PACKET.itemsize + size * capacity
    if stop > len(content.data):
        raise content.wrong(
            start, f"a packet has {stop - start} bytes, but only {len(content.data) - start} follow: it was cut"
        )
    return head, range(start + _PACKET.itemsize, stop)


def _events(content: Content, start: int, head: Any, body: range) -> tuple[Array, int]:
    """Return the data and times of a packet of polarity events `[n, 2]`, and what its overflow adds to the times."""
    if (head["size"], head["offset"]) != (8, 4):
        raise content.wrong(start, f"polarity events have {head['size']} bytes, with the time at {head['offset']}")
    pairs = np.frombuffer(content.data, "<u4", 2 * int(head["number"]), body.start).reshape(-1, 2)
    valid = int((pairs[:, 0] & 1).sum())
    if valid != head["valid"]:
        raise content.wrong(start, f"a packet says {head['valid']} valid events, but {valid} are marked so")
    return pairs, int(head["overflow"]) << 31


def _joined(
    content: Content, bodies: list[tuple[int, Array, int]], size: tuple[int, int], left_out: dict[str, int]
) -> Events:
    pairs = np.concatenate([np.empty((0, 2), "<u4"), *(body for _, body, _ in bodies)]).astype(np.int64)
    places = [start + 28 + 8 * np.arange(len(body)) for start, body, _ in bodies]
    offsets = np.concatenate([np.empty(0, np.int64), *places])
    later = np.repeat(np.array([add for *_, add in bodies], np.int64), [len(body) for _, body, _ in bodies])
    late = pairs[:, 1] >= 2**31
    if late.any():
        place = int(late.argmax())
        raise content.wrong(int(offsets[place]) + 4, f"event {place} has a time below 0")
    valid = pairs[:, 0] & 1 == 1
    if not valid.all():
        left_out = left_out | {"invalid events": int((~valid).sum())}
    data = pairs[valid, 0]
    x, y = data >> 17, data >> 2 & 0x7FFF
    content.check_pixels(x, y, size, offsets[valid])
    return Events((pairs[:, 1] + later)[valid], x, y, data >> 1 & 1, *size, left_out=left_out)
