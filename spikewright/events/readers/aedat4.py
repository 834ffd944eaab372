"""AEDAT 4 of DV: packets of FlatBuffers, compressed or not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from spikewright._util.ranges import check_count
from spikewright.events.readers.compression import NAMES, decompressed
from spikewright.events.readers.content import Content, content_of
from spikewright.events.readers.flatbuffer import Malformed, Table, root, unpacked
from spikewright.events.recording import Events

MAGIC = b"#!AER-DAT4.0\r\n"
_EVENT = np.dtype({"names": list("txyp"), "formats": ["<i8", "<i2", "<i2", "u1"], "offsets": [0, 8, 10, 12],
                   "itemsize": 16})  # fmt: skip


@dataclass(frozen=True)
class _Stream:
    kind: str
    height: int
    width: int


@dataclass(frozen=True)
class _Packet:
    start: int
    stream: int
    stop: int


def read_aedat4(path: Path | str, stream: int | None = None) -> Events:
    """Read the events of an AEDAT 4 file, as written by DV, dv-processing and faery.

    x, y and the polarity (1: brightness rose) are as stored, in the order of the file.  Times are microseconds, as
    stored: usually those of the Unix clock, so far from 0.  Packets are read by their own headers, and compared with
    the table at the end of the file (position, stream, number of events), if it has one; a recording that was never
    closed has none, and a cut between two of its packets cannot be told from its end.

    Packets of other streams (frames, inertial measurements, triggers) are left out and counted in `left_out`.

    Args:
        path: The file.
        stream: Number of the stream, at least 0, of a file of several cameras.  Default: None, the only one.

    Raises:
        DatasetCorrupt: The file is cut or damaged, has no events or those of several cameras, or an event outside of
            the sensor; with the byte.
        ConfigError: `stream` is not a whole number of at least 0.
        ImportError: The file is compressed, and lz4 or zstandard is not installed.

    Reference:
        iniVation, AEDAT file formats: AEDAT 4.0.
    """
    if stream is not None:
        check_count("read_aedat4", "stream", stream, "stream numbers a stream of the file", 0)
    content = content_of(path, "AEDAT 4")
    method, table, start, streams = _header(content)
    stream = _chosen(content, streams, stream)
    packets = list(_packets(content, start, table))
    parts, offsets, left_out = [np.empty(0, _EVENT)], [np.empty(0, np.int64)], dict[str, int]()
    for packet in packets:
        if packet.stream not in streams:
            raise content.wrong(packet.start, f"a packet is of stream {packet.stream}, of {sorted(streams)}")
        if packet.stream == stream:
            parts.append(_events(content, packet, method))
            offsets.append(np.full(len(parts[-1]), packet.start))
        else:
            name = f"packets of {streams[packet.stream].kind}"
            left_out[name] = left_out.get(name, 0) + 1
    if table >= 0:
        numbers = iter([len(part) for part in parts[1:]])
        counts = [next(numbers) if packet.stream == stream else None for packet in packets]
        _check_table(content, table, method, packets, counts)
    events, places = np.concatenate(parts), np.concatenate(offsets)
    size = (streams[stream].height, streams[stream].width)
    content.check_pixels(events["x"], events["y"], size, places)
    content.check_times(events["t"], places)
    if (events["p"] > 1).any():
        first = int((events["p"] > 1).argmax())
        raise content.wrong(int(places[first]), f"event {first} has the polarity {events['p'][first]}, not 0 or 1")
    return Events(events["t"], events["x"], events["y"], events["p"], *size, left_out=left_out)


def _header(content: Content) -> tuple[int, int, int, dict[int, _Stream]]:
    """Return the code of the compression, where the table and the packets begin, and the streams."""
    data, begin = content.data, len(MAGIC)
    if not data.startswith(MAGIC):
        raise content.wrong(0, f"it starts with {data[:12]!r}, not with {MAGIC!r}")
    try:
        stop = begin + 4 + unpacked(data, begin, "<I")
        header = root(data[begin:stop], b"IOHE")
        method, table = header.number(0, "<i", 0), header.number(1, "<q", -1)
        place, length = header.vector(2, 1)
        if not 0 <= method < len(NAMES):
            raise Malformed(f"the compression has the unknown code {method}")
        if not (table == -1 or stop <= table < len(data)):
            raise Malformed(f"the table of packets is at {table}, but the file has {len(data)} bytes: it was cut")
        streams = _streams(header.data[place : place + length])
    except Malformed as cause:
        raise content.wrong(begin, f"the header is damaged: {cause}") from cause
    return method, table, stop, streams


def _streams(text: bytes) -> dict[int, _Stream]:
    if b"<!" in text:
        raise Malformed("its description declares entities, which no recording needs")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as cause:
        raise Malformed(f"its description is no XML: {cause}") from cause
    streams = dict[int, _Stream]()
    for node in tree.findall("./node[@name='outInfo']/node"):
        fields = {each.get("key", ""): each.text or "" for each in node.iter("attr")}
        number, sizes = node.get("name", ""), [fields.get(name, "0") for name in ("sizeY", "sizeX")]
        if not all(one.isascii() and one.isdigit() and len(one) < 6 for one in (number, *sizes)):
            raise Malformed(f"its stream {number!r} has the sizes {sizes}")
        streams[int(number)] = _Stream(fields.get("typeIdentifier", "?"), *map(int, sizes))
    return streams


def _chosen(content: Content, streams: dict[int, _Stream], stream: int | None) -> int:
    """Return the number of the stream of events that is read."""
    choices = [number for number, each in streams.items() if each.kind == "EVTS"]
    if stream is None and len(choices) == 1:
        stream = choices[0]
    if stream not in choices:
        raise content.wrong(
            len(MAGIC), f"the streams of events are {choices}, and {stream} is to be read", "Give stream, one of them."
        )
    if not (streams[stream].height and streams[stream].width):
        raise content.wrong(len(MAGIC), f"stream {stream} has no size")
    return stream


def _packets(content: Content, start: int, table: int) -> Any:
    """Yield where the packets are, to the table or to the end of the file."""
    end = len(content.data) if table < 0 else table
    while start < end:
        if end - start < 8:
            raise content.wrong(start, f"the header of a packet has {end - start} of 8 bytes: it was cut")
        stream, size = (unpacked(content.data, start + place, "<i") for place in (0, 4))
        if size < 0 or start + 8 + size > end:
            raise content.wrong(start, f"a packet has {size} bytes, of which {end - start - 8} are there: it was cut")
        yield _Packet(start, stream, start + 8 + size)
        start += 8 + size


def _events(content: Content, packet: _Packet, method: int) -> np.ndarray[Any, Any]:
    try:
        data = decompressed(content.data[packet.start + 8 : packet.stop], method)
        place, count = root(data, b"EVTS").vector(0, _EVENT.itemsize)
    except Malformed as cause:
        raise content.wrong(packet.start, f"a packet of events is damaged: {cause}") from cause
    return np.frombuffer(data, _EVENT, count, place)


def _check_table(content: Content, table: int, method: int, packets: list[_Packet], counts: list[int | None]) -> None:
    """Compare the table at the end of the file with the packets."""
    try:
        data = decompressed(content.data[table:], method)
        place, number = root(data, b"FTAB").vector(0, 4)
        if number != len(packets):
            raise Malformed(f"it lists {number} packets, but there are {len(packets)}")
        entries = sorted(_entry(data, place + 4 * index) for index in range(number))  # in the order of the file
        for entry, packet, count in zip(entries, packets, counts):
            listed = entry if count is not None else (*entry[:3], None)
            found = (packet.start + 8, packet.stream, packet.stop - packet.start - 8, count)
            if listed != found:
                raise Malformed(f"it lists {listed}, but there is {found} (byte, stream, size, number of events)")
    except Malformed as cause:
        raise content.wrong(table, f"the table of packets is damaged, cut, or contradicts them: {cause}") from cause


def _entry(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Return the position of a packet's content, its stream, its size and its number of elements, as the table says."""
    entry = Table(data, position + unpacked(data, position, "<I"))
    info = entry.place(1)
    if info is None:
        raise Malformed("an entry has no stream and no size")
    stream, size = (unpacked(data, info + step, "<i") for step in (0, 4))
    return entry.number(0, "<q", 0), stream, size, entry.number(2, "<q", 0)
