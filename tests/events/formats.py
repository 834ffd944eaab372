"""Files of events by the definitions of their formats: written and read one event at a time, without numpy.

Nothing is shared with the library.  A row is (t, x, y, p).  What a reader has to refuse is `Refused` here.
"""

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

Row = tuple[int, int, int, int]


class Refused(Exception):
    """The bytes are no such file, or contradict themselves."""


def demand(right: bool) -> None:
    if not right:
        raise Refused


def stream(seed: int, n: int, height: int, width: int, gap: int, start: int = 0) -> list[Row]:
    """Return events in order, some of them at one time and in one row, as a camera writes them."""
    draw, t, rows = random.Random(seed), start, list[Row]()
    while len(rows) < n:
        t += draw.choice((0, 1, draw.randint(0, gap)))
        y, p, x = draw.randrange(height), draw.randrange(2), draw.randrange(width)
        for _ in range(draw.choice((1, 1, 1, 5, 30))):
            rows.append((t, x, y, p))
            x += draw.randint(1, 4)
            if x >= width:
                break
    return rows[:n]


# N-MNIST


def write_nmnist(rows: list[Row]) -> bytes:
    """Times within 23 bits are written as they are, later ones after marks."""
    out, added = bytearray(), 0
    for t, x, y, p in rows:
        while t - added >= 2**23:
            out += bytes([0, 240, 0, 0, 0])
            added += 8192
        out += bytes([x, y]) + (p << 23 | t - added).to_bytes(3, "big")
    return bytes(out)


def slow_nmnist(data: bytes, height: int = 34, width: int = 34) -> list[Row]:
    demand(len(data) > 0 and len(data) % 5 == 0)
    rows, added = list[Row](), 0
    for at in range(0, len(data), 5):
        x, y, rest = data[at], data[at + 1], int.from_bytes(data[at + 2 : at + 5], "big")
        if y == 240:
            added += 8192
            continue
        demand(x < width and y < height)
        rows.append((rest % 2**23 + added, x, y, rest >> 23))
    return rows


# AEDAT 2.0


def write_aedat2(
    rows: list[Row], special: tuple[int, ...] = (), header: bytes = b"# This is a raw AE data file\r\n"
) -> bytes:
    out = bytearray(b"#!AER-DAT2.0\r\n" + header)
    for index, (t, x, y, p) in enumerate(rows):
        if index in special:
            out += struct.pack(">II", 0x8000, t % 2**32)
        out += struct.pack(">II", y * 256 + x * 2 + (not p), t % 2**32)
    return bytes(out)


def slow_aedat2(data: bytes) -> list[Row]:
    demand(data.startswith(b"#!AER-DAT2.0"))
    at = 0
    while data[at : at + 1] == b"#" and b"\n" in data[at:]:
        at = data.index(b"\n", at) + 1
    demand((len(data) - at) % 8 == 0)
    rows, last, added = list[Row](), None, 0
    for place in range(at, len(data), 8):
        address, t = struct.unpack(">II", data[place : place + 8])
        if last is not None:
            demand(t - last < 2**31)
            added += 2**32 if last - t >= 2**31 else 0
        last = t
        if not (address & 0x8000 or address >> 31):
            demand(address < 0x8000)
            rows.append((t + added, address // 2 % 128, address // 256, 1 - address % 2))
    return rows


# AEDAT 3.1


def write_aedat3(
    rows: list[Row], size: int = 50, invalid: tuple[int, ...] = (), other: bool = False, source: str = "DVS128"
) -> bytes:
    """`invalid` are rows that are marked so; `other` puts a packet of two special events before each."""
    head = f"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: {source}\r\n#Start-Time: 2016\r\n#!END-HEADER\r\n"
    out = bytearray(head.encode())
    parts = [list(enumerate(rows))[at : at + size] for at in range(0, len(rows), size)]
    for part in parts:
        for high, group in groupby(part, lambda item: item[1][0] >> 31):  # one overflow in a packet
            group = list(group)
            if other:
                out += struct.pack("<hhiiiiii", 0, 1, 8, 4, high, 2, 2, 2) + bytes(16)
            valid = sum(index not in invalid for index, _ in group)
            out += struct.pack("<hhiiiiii", 1, 1, 8, 4, high, len(group), len(group), valid)
            for index, (t, x, y, p) in group:
                out += struct.pack("<II", x << 17 | y << 2 | p << 1 | (index not in invalid), t % 2**31)
    return bytes(out)


def slow_aedat3(data: bytes, height: int = 128, width: int = 128) -> list[Row]:
    demand(data.startswith(b"#!AER-DAT3.1"))
    end = data.find(b"#!END-HEADER")
    demand(end >= 0)
    at = data.find(b"\n", end) + 1
    demand(at > 0)
    rows, source = list[Row](), None
    while at < len(data):
        demand(len(data) - at >= 28)
        kind, origin, size, offset, high, capacity, number, valid = struct.unpack("<hhiiiiii", data[at : at + 28])
        demand(kind >= 0 and size > 0 and 0 <= valid <= number <= capacity and high >= 0)
        demand(len(data) - at - 28 >= size * capacity)
        if kind == 1:
            demand(size == 8 and offset == 4 and source in (None, origin))
            source, marked = origin, 0
            for index in range(number):
                word, t = struct.unpack("<Ii", data[at + 28 + 8 * index : at + 36 + 8 * index])
                demand(t >= 0)
                if word % 2:
                    marked += 1
                    demand(word >> 17 < width and (word >> 2) % 2**15 < height)
                    rows.append((high * 2**31 + t, word >> 17, (word >> 2) % 2**15, (word >> 1) % 2))
            demand(marked == valid)
        at += 28 + size * capacity
    return rows


# Prophesee


def head(lines: str) -> bytes:
    return "".join(f"% {line}\n" for line in lines.split("|")).encode()


def after_head(data: bytes) -> tuple[dict[str, str], int]:
    """Return the words of the header by the first of each line, and where the data begin."""
    at, found = 0, dict[str, str]()
    while data[at : at + 2] in (b"% ", b"%\n", b"%\r"):
        stop = data.find(b"\n", at)
        text = data[at + 1 : stop]
        text = text.removesuffix(b"\r")
        if stop < 0 or (text and text[:1] != b" ") or not all(32 <= byte < 127 or byte == 9 for byte in text):
            break
        line, at = text.decode().strip(), stop + 1
        found.setdefault(line.partition(" ")[0].lower(), line.partition(" ")[2].strip())
        if data[:at].endswith((b"% end\n", b"% end\r\n")):
            break
    return found, at


def number(text: str) -> int:
    demand(text.isascii() and text.isdigit() and len(text) < 6 and text[0] != "0")
    return int(text)


def size_in(found: dict[str, str]) -> tuple[int, int]:
    """Return height and width; if they are said at several places, these have to agree."""
    said = [(found[name], name) for name in ("height", "width") if name in found]
    said += [tuple(part.split("=")[::-1]) for part in found.get("format", "").split(";")[1:] if part.count("=") == 1]
    width, cross, height = found.get("geometry", "").partition("x")
    if cross and all(each.isascii() and each.isdigit() and len(each) < 6 for each in (width, height)):
        said += [(height, "height"), (width, "width")]
    values = [{value for value, name in said if name == wanted} for wanted in ("height", "width")]
    demand(len(values[0]) == 1 and len(values[1]) == 1)
    return number(values[0].pop()), number(values[1].pop())


def write_dat(
    rows: list[Row], lines: str = "Data file containing CD events.|Version 2|Height 240|Width 304", code: int = 12
) -> bytes:
    words = (struct.pack("<II", t % 2**32, p << 28 | y << 14 | x) for t, x, y, p in rows)
    return head(lines) + bytes([code, 8]) + b"".join(words)


def slow_dat(data: bytes) -> list[Row]:
    found, at = after_head(data)
    demand(bool(found) and found.get("version", "2") == "2" and "evt" not in found)
    demand(len(data) - at >= 2 and data[at] in (0, 12) and data[at + 1] == 8 and (len(data) - at - 2) % 8 == 0)
    height, width = size_in(found)
    rows, last, added = list[Row](), None, 0
    for place in range(at + 2, len(data), 8):
        t, word = struct.unpack("<II", data[place : place + 8])
        if last is not None:
            demand(t - last < 2**31)
            added += 2**32 if last - t >= 2**31 else 0
        last = t
        x, y, p = word % 2**14, (word >> 14) % 2**14, word >> 28
        demand(x < width and y < height and p < 2)
        rows.append((t + added, x, y, p))
    return rows


EVT2_HEAD = "evt 2.0|format EVT2;height=480;width=640|geometry 640x480|end"
EVT3_HEAD = "evt 3.0|format EVT3;height=720;width=1280|geometry 1280x720|end"


def write_evt2(rows: list[Row], lines: str = EVT2_HEAD, extra: bool = False) -> bytes:
    """A time word where the upper bits change; `extra` adds a trigger and a vendor's word after each."""
    out, high = bytearray(head(lines)), -1
    for t, x, y, p in rows:
        if t >> 6 != high:
            high = t >> 6
            out += struct.pack("<I", 0x8 << 28 | high % 2**28)
            if extra:
                out += struct.pack("<III", 0xA << 28, 0xE << 28, 0xF << 28)
        out += struct.pack("<I", p << 28 | t % 64 << 22 | x << 11 | y)
    return bytes(out)


def turned(old: int | None, new: int, period: int) -> int:
    """Return a count that goes on from `old`; a step of more than three quarters of the period is refused."""
    if old is None:
        return new
    step = (new - old) % period
    demand(step <= period * 3 // 4)
    return old + step


def slow_evt2(data: bytes) -> list[Row]:
    found, at = after_head(data)
    demand(version_in(found) == "2.0" and found.get("endianness", "little") == "little")
    height, width = size_in(found)
    demand((len(data) - at) % 4 == 0)
    rows, high = list[Row](), None
    for place in range(at, len(data), 4):
        (word,) = struct.unpack("<I", data[place : place + 4])
        kind = word >> 28
        demand(kind in (0, 1, 8, 10, 14, 15))
        if kind == 8:
            high = turned(high, word % 2**28, 2**28)
        elif kind < 2 and high is not None:
            x, y = (word >> 11) % 2**11, word % 2**11
            demand(x < width and y < height)
            rows.append((high * 64 + (word >> 22) % 64, x, y, kind))
    return rows


def version_in(found: dict[str, str]) -> str | None:
    named = {"EVT2": "2.0", "EVT21": "2.1", "EVT3": "3.0"}.get(found.get("format", "").split(";")[0])
    demand(named is None or found.get("evt", named) == named)
    return named or found.get("evt")


def vectors(rows: list[Row]) -> Iterator[list[Row]]:
    """Yield runs of events of one time, row and polarity, with growing columns."""
    run = list[Row]()
    for row in rows:
        if run and (row[0], *row[2:]) == (run[-1][0], *run[-1][2:]) and row[1] > run[-1][1]:
            run.append(row)
        else:
            if run:
                yield run
            run = [row]
    if run:
        yield run


def write_evt3(rows: list[Row], lines: str = EVT3_HEAD, every_high: bool = False, extra: bool = False) -> bytes:
    """State words where the state changes; `every_high` writes each count of the upper clock, as cameras do."""
    words, high, low, row = list[int](), None, None, None
    for run in vectors(rows):
        t, first, y, p = run[0]
        if t >> 12 != high:
            counts = range(t >> 12 if high is None else high + 1, (t >> 12) + 1) if every_high else [t >> 12]
            for count in counts:
                words.append(0x8000 | count % 4096)
            high, low = t >> 12, None
        if t % 4096 != low:
            low = t % 4096
            words.append(0x6000 | low)
        if extra:
            words += [0xA000, 0xE123, 0xF456, 0x7001]
        if y != row:
            row = y
            words.append(y)
        if len(run) == 1:
            words.append(0x2000 | p << 11 | first)
            continue
        words.append(0x3000 | p << 11 | first)
        columns, base = {x for _, x, _, _ in run}, first
        while base <= run[-1][1]:
            wide = run[-1][1] - base >= 8
            bits = sum(1 << bit for bit in range(12 if wide else 8) if base + bit in columns)
            words.append((0x4000 if wide else 0x5000) | bits)
            base += 12 if wide else 8
    return head(lines) + struct.pack(f"<{len(words)}H", *words)


def slow_evt3(data: bytes) -> list[Row]:
    found, at = after_head(data)
    demand(version_in(found) == "3.0" and found.get("endianness", "little") == "little")
    height, width = size_in(found)
    demand((len(data) - at) % 2 == 0)
    rows, high, low, row, base = list[Row](), None, 0, None, None
    for place in range(at, len(data), 2):
        (word,) = struct.unpack("<H", data[place : place + 2])
        kind, value = word >> 12, word % 4096
        demand(kind not in (1, 9, 11, 12, 13))
        found_here = list[tuple[int, int]]()
        if kind == 0:
            row = value % 2048
        elif kind == 8:
            high, low = turned(high, value, 4096), 0
        elif kind == 6:
            low = value
        elif kind == 3:
            base = (value % 2048, value >> 11)
        elif kind == 2:
            found_here = [(value % 2048, value >> 11)]
        elif kind in (4, 5) and base is not None:
            many = 12 if kind == 4 else 8
            found_here = [(base[0] + bit, base[1]) for bit in range(many) if value >> bit & 1]
            base = (base[0] + many, base[1])
        if high is not None and row is not None:
            for x, p in found_here:
                demand(x < width and row < height)
                rows.append((high * 4096 + low, x, row, p))
    return rows


@dataclass(frozen=True)
class Format:
    """A format: how it is written and read here, its sensor, and the longest gap between events of the test streams."""

    write: Callable[[list[Row]], bytes]
    slow: Callable[[bytes], list[Row]]
    suffix: str
    height: int
    width: int
    gap: int
    unit: int
    """Bytes between two places where a cut cannot be seen."""


FORMATS = {
    "nmnist": Format(write_nmnist, slow_nmnist, ".bin", 34, 34, 2000, 5),
    "aedat2": Format(write_aedat2, slow_aedat2, ".aedat", 128, 128, 2000, 8),
    "aedat3": Format(write_aedat3, slow_aedat3, ".aedat", 128, 128, 2000, 0),
    "dat": Format(write_dat, slow_dat, ".dat", 240, 304, 2000, 8),
    "evt2": Format(write_evt2, slow_evt2, ".raw", 480, 640, 2000, 4),
    "evt3": Format(write_evt3, slow_evt3, ".raw", 720, 1280, 2000, 2),
}
