"""AEDAT 4 files without compression, laid out by hand: every byte has its place, so damage can be traced."""

import struct

from tests.events.formats import Row

MAGIC = b"#!AER-DAT4.0\r\n"


def xml(streams: list[tuple[int, str, int, int]]) -> bytes:
    """Return the description of streams: number, type, width, height."""
    nodes = "".join(
        f'<node name="{number}" path="/x/outInfo/{number}/"><attr key="typeIdentifier" type="string">{kind}</attr>'
        f'<node name="info" path="/x/"><attr key="sizeX" type="int">{width}</attr>'
        f'<attr key="sizeY" type="int">{height}</attr></node></node>'
        for number, kind, width, height in streams
    )
    return f'<dv version="2.0"><node name="outInfo" path="/x/outInfo/">{nodes}</node></dv>'.encode()


def sized(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def header(text: bytes, table: int, compression: int = 0) -> bytes:
    """Return the header: table of compression (int32), position of the table (int64) and the description."""
    # root offset, identifier, vtable (3 fields) with 2 bytes of padding, table of 4 + 4 + 8 + 4 bytes, text
    vtable = struct.pack("<HHHHHH", 10, 20, 4, 8, 16, 0)
    content = struct.pack("<I4s", 20, b"IOHE") + vtable + struct.pack("<iiqI", 12, compression, table, 4)
    return sized(content + sized(text) + b"\0")


def events(rows: list[Row]) -> bytes:
    """Return the content of a packet: a table with one vector of structures of 16 bytes."""
    vtable = struct.pack("<HHHH", 6, 8, 4, 0)
    content = struct.pack("<I4s", 16, b"EVTS") + vtable + struct.pack("<iI", 8, 4) + struct.pack("<I", len(rows))
    return sized(content + b"".join(struct.pack("<qhhB3x", t, x, y, p) for t, x, y, p in rows))


FIRST_EVENT = 8 + 4 + 8 + 8 + 8 + 4
"""Bytes of a packet before its first event: its header, and what `events` writes before them."""


def table(entries: list[tuple[int, int, int, int]]) -> bytes:
    """Return the table of packets: byte, stream, size, number of elements."""
    start, size = 8 + 8 + 4 + 4, 32
    content = struct.pack("<I4s", 16, b"FTAB") + struct.pack("<HHHH", 6, 8, 4, 0) + struct.pack("<iI", 8, 4)
    content += struct.pack("<I", len(entries))
    padding = len(entries) % 2 == 0  # numbers of 8 bytes lie at multiples of 8, the size of 4 bytes included
    vtable_at = start + 4 + 4 * len(entries) + 4 * padding
    first = vtable_at + 12
    for index in range(len(entries)):
        content += struct.pack("<I", first + size * index - (start + 4 + 4 * index))
    content += bytes(4 * padding) + struct.pack("<HHHHHH", 10, size, 8, 16, 24, 0)
    for index, (byte, stream, length, number) in enumerate(entries):
        content += struct.pack("<i4xqiiq", first + size * index - vtable_at, byte, stream, length, number)
    return sized(content)


def write_aedat4(rows: list[Row], size: int = 50, closed: bool = True, other: int | None = None) -> bytes:
    """Return a file of 128 x 128 pixels; `other` is the number of a stream of frames, with a packet before each."""
    streams = [(0, "EVTS", 128, 128)] + ([(other, "FRME", 128, 128)] if other else [])
    text = xml(streams)
    start = len(MAGIC) + len(header(text, -1))
    body, entries = bytearray(), list[tuple[int, int, int, int]]()
    for at in range(0, len(rows), size):
        if other:
            entries.append((start + len(body) + 8, other, 5, 1))
            body += struct.pack("<ii", other, 5) + b"frame"
        content = events(rows[at : at + size])
        entries.append((start + len(body) + 8, 0, len(content), len(rows[at : at + size])))
        body += struct.pack("<ii", 0, len(content)) + content
    end = table(entries) if closed else b""
    return MAGIC + header(text, start + len(body) if closed else -1) + bytes(body) + end


def traced(data: bytes, original: bytes, rows: int, size: int = 50) -> list[Row]:
    """Return the events at the places where `write_aedat4` put them, from bytes that were altered since."""
    start, found = len(MAGIC) + len(header(xml([(0, "EVTS", 128, 128)]), -1)), list[Row]()
    for at in range(0, rows, size):
        count = min(size, rows - at)
        for index in range(count):
            place = start + FIRST_EVENT + 16 * index
            found.append(struct.unpack("<qhhB3x", data[place : place + 16]))
        start += len(events([(0, 0, 0, 0)] * count)) + 8
    return found
