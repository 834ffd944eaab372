"""Ways to damage a file, or to put something else in its place."""

import gzip
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image

Damage = Callable[[random.Random, bytes], bytes]


def _at(draw: random.Random, data: bytes) -> int:
    """A place, often near the start, where formats keep their headers."""
    return draw.randrange(max(1, min(len(data), 80) if draw.random() < 0.5 else len(data)))


def _flipped(draw: random.Random, data: bytes, times: int) -> bytes:
    changed = bytearray(data)
    for _ in range(times if data else 0):
        changed[_at(draw, data)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _zeroed(draw: random.Random, data: bytes) -> bytes:
    at, length = _at(draw, data), draw.randint(1, 64)
    return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]


def _moved(draw: random.Random, data: bytes) -> bytes:
    at, length, to = _at(draw, data), draw.randint(1, 64), _at(draw, data)
    rest = data[:at] + data[at + length :]
    return rest[:to] + data[at : at + length] + rest[to:]


def _inserted(draw: random.Random, data: bytes, piece: bytes) -> bytes:
    at = _at(draw, data)
    return data[:at] + piece + data[at:]


def _digits(draw: random.Random, data: bytes) -> bytes:
    """Another number in place of one."""
    places = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if not places:
        return _flipped(draw, data, 1)
    at = draw.choice(places)
    number = draw.choice(
        [b"9" * 5000, b"1e999", b"NaN", b"-1", b"Infinity", b"0", b"18446744073709551616", b"1.5", b"-"]
    )
    return data[:at] + number + data[at + 1 :]


def _encoded(draw: random.Random, data: bytes) -> bytes:
    text = data.decode("latin-1")
    return draw.choice([text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + data, b"\xff\xfe" + data])


def _lines(draw: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(draw.choice([lines, lines * 2, lines[:one] + lines[one + 1 :]]))


def _json(draw: random.Random, data: bytes) -> bytes:
    """JSON with another value at some place; other files lose a part."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return _moved(draw, data)
    values: list[Any] = [None, [], {}, "word", -1, 1e308, True, [[1]], {"name": 3}, 0, "", [None], 10**30]
    parent, key, node = None, None, tree
    while isinstance(node, dict | list) and node and (parent is None or draw.random() < 0.85):
        parent = cast("Any", node)
        key = draw.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        node = parent[key]
    if parent is None or draw.random() < 0.05:
        return json.dumps(draw.choice(values)).encode()
    if draw.random() < 0.25:
        del parent[key]
    else:
        parent[key] = draw.choice(values)
    return json.dumps(tree).encode()


DAMAGE: dict[str, Damage] = {
    "cut": lambda draw, data: data[: _at(draw, data)],
    "beginning lost": lambda draw, data: data[_at(draw, data) :],
    "empty": lambda draw, data: b"",
    "bit": lambda draw, data: _flipped(draw, data, 1),
    "bits": lambda draw, data: _flipped(draw, data, draw.randint(2, 40)),
    "zeros": _zeroed,
    "moved": _moved,
    "noise": lambda draw, data: draw.randbytes(max(1, len(data))),
    "noise inside": lambda draw, data: _inserted(draw, data, draw.randbytes(draw.randint(1, 9))),
    "appended": lambda draw, data: data + draw.choice([b"\0", b"\n", b"x", data, b"}" * 9]),
    "number": _digits,
    "encoding": _encoded,
    "lines": _lines,
    "long line": lambda draw, data: _inserted(draw, data, draw.choice([b"x", b" ", b"9", b"\t"]) * 300_000),
    "nesting": lambda draw, data: draw.choice([b"[", b'{"a":', b"a=[", b"(", b"[a."]) * 20_000,
    "nesting inside": lambda draw, data: _inserted(draw, data, b"[" * 20_000),
    "value": _json,
    "another value": _json,
    "packed": lambda draw, data: gzip.compress(data),
}


def replace(draw: random.Random, path: Path, others: list[Path]) -> str:
    """Damage a file, or put something else in its place; say what was done."""
    kind = draw.choice([*DAMAGE, "removed", "folder", "link", "swapped", "unreadable"])
    if kind in DAMAGE:
        path.write_bytes(DAMAGE[kind](draw, path.read_bytes()))
    elif kind == "swapped":
        shutil.copyfile(draw.choice(others), path)
    elif kind == "unreadable":
        path.chmod(0)
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path.name)
    return kind


def write_images(folder: Path, kinds: Sequence[str]) -> None:
    """Write images of two classes in each part, two of each kind of file."""
    for number, kind in enumerate([*kinds, *kinds]):
        for part in ("train", "test"):
            path = folder / part / f"class{number % 2}" / f"{number}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (6, 6), random.Random(number).randbytes(6 * 6 * 3)).save(path)
