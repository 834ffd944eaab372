"""Damage files of events at random, and see that each gives an error of ours or what its bytes say.

    python -m tests.events.damaged --count 2000

What a reader returns is compared with the slow decoders of `formats`, applied to the damaged bytes.  For AEDAT 4 it is
compared with the bytes at the places where the events were put.  Of compressed AEDAT 4 only the errors are looked at.
"""

import argparse
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikewright.errors import DatasetCorrupt
from spikewright.events import Events, read
from tests.events.aedat4_files import traced, write_aedat4
from tests.events.formats import FORMATS, Refused, Row, stream, write_aedat3, write_evt2, write_evt3

ROWS = 120


@dataclass(frozen=True)
class Case:
    """A file, and what a damaged copy of it holds: a function of its bytes; `None` where nobody can say."""

    name: str
    suffix: str
    content: bytes
    holds: Callable[[bytes], list[Row] | None]
    row: int | None = None


def rows_of(events: Events) -> list[Row]:
    return list(zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()))


def cases() -> list[Case]:
    """Return files of every format; those that need a package which is not installed are left out."""
    found = list[Case]()
    for name, each in FORMATS.items():
        rows = stream(1, ROWS, each.height, each.width, each.gap, 5000)
        found.append(Case(name, each.suffix, each.write(rows), each.slow))
    rows = stream(2, ROWS, 128, 128, 900)
    found.append(Case("aedat3, more", ".aedat", write_aedat3(rows, 20, (3, 50), other=True), FORMATS["aedat3"].slow))
    found.append(Case("evt2, more", ".raw", write_evt2(rows, extra=True), FORMATS["evt2"].slow))
    found.append(Case("evt3, more", ".raw", write_evt3(rows, extra=True, every_high=True), FORMATS["evt3"].slow))
    plain = write_aedat4(rows)
    found.append(Case("aedat4", ".aedat4", plain, lambda data: in_place(data, plain, rows)))
    return found + compressed(rows) + spikes()


def in_place(data: bytes, plain: bytes, rows: list[Row]) -> list[Row]:
    """Return the events at their places; bytes were put in or taken out only where the events are unharmed."""
    return traced(data, plain, len(rows)) if len(data) == len(plain) else rows


def compressed(rows: list[Row]) -> list[Case]:
    """Return AEDAT 4 files with compressed packets, and without a table."""
    import struct

    from tests.events.aedat4_files import MAGIC, events, header, xml

    found = list[Case]()
    for name, code, package in (("lz4", 1, "lz4.frame"), ("zstd", 3, "zstandard")):
        try:
            module: Any = __import__(package, fromlist=["x"])
        except ImportError:
            continue
        pack = module.compress
        body = bytearray()
        for at in range(0, len(rows), 40):
            content = pack(events(rows[at : at + 40]))
            body += struct.pack("<ii", 0, len(content)) + content
        data = MAGIC + header(xml([(0, "EVTS", 128, 128)]), -1, code) + bytes(body)
        found.append(Case(f"aedat4, {name}", ".aedat4", data, lambda data: None))
    return found


def spikes() -> list[Case]:
    """Return a file of SHD with three rows."""
    try:
        import h5py
    except ImportError:
        return []
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shd.h5")
        write_spikes(
            path, [(np.linspace(0, 1, 40), np.arange(40)), (np.zeros(0), np.zeros(0)), ([0.5], [699])], [0, 1, 0]
        )
        data = path.read_bytes()

    def holds(damaged: bytes) -> list[Row] | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "shd.h5")
            path.write_bytes(damaged)
            with h5py.File(path, "r") as file:
                times, units = (np.asarray(file.get(f"spikes/{key}")[0]) for key in ("times", "units"))  # pyright: ignore
                return [(round(float(t) * 1e6), int(x), 0, 0) for t, x in zip(times, units)]

    return [Case("shd", ".h5", data, holds, row=0)]


def write_spikes(
    path: Path,
    rows: list[Any],
    labels: list[int],
    names: tuple[str, ...] = ("zero", "one"),
    chunks: tuple[int] | None = None,
) -> None:
    """Write a file of SHD with h5py."""
    import h5py
    import numpy as np

    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        for key, kind, values in (
            ("times", np.float16, [r[0] for r in rows]),
            ("units", np.uint16, [r[1] for r in rows]),
        ):
            data = group.create_dataset(key, (len(rows),), h5py.vlen_dtype(kind), chunks=chunks)
            for index, each in enumerate(values):
                data[index] = np.asarray(each, kind)
        file["labels"] = np.asarray(labels, np.uint16)
        if names:
            file["extra/keys"] = np.array([name.encode() for name in names])


def damage(draw: random.Random, data: bytes) -> bytes:
    """Return a damaged copy: bytes altered, put in, taken out, doubled or zeroed, or the file cut."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(found)) if draw.random() < 0.5 else draw.randrange(min(400, len(found)))
        size = draw.choice((1, 1, 2, 4, 8, 64))
        kind = draw.randrange(8)
        if kind < 3:
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 3:
            found[at] = draw.randrange(256)
        elif kind == 4:
            found[at:at] = draw.randbytes(size)
        elif kind == 5 and len(found) > size:
            del found[at : at + size]
        elif kind == 6:
            found[at : at + size] = bytes(len(found[at : at + size]))
        else:
            del found[max(at, 1) :]
    return bytes(found) or b"\0"


def outcome(case: Case, data: bytes, path: Path) -> str:
    """Return "error" or "events" if the reader did right by these bytes, and else what it did."""
    path.write_bytes(data)
    try:
        events = read(path, row=case.row)
    except DatasetCorrupt as error:
        told = str(error)
        placed = "HDF5" in told or re.search(r"at byte \d+", told)
        return "error" if str(path) in told and placed else f"an error without path or byte: {told}"
    except Exception as error:
        return f"raw {type(error).__name__}: {error}"
    try:
        expected = case.holds(data)
    except Refused:
        return "events of a file that has to be refused"
    return "events" if expected is None or rows_of(events) == expected else "events that the bytes do not say"


def run(count: int, seed: int = 0) -> tuple[Counter[tuple[str, str]], dict[str, float], dict[str, bytes]]:
    """Damage `count` files of each case; return outcomes, the longest time of each, and an example of each fault."""
    found, longest, faults = Counter[tuple[str, str]](), dict[str, float](), dict[str, bytes]()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            draw = random.Random(f"{case.name} {seed}")
            path = Path(folder, f"damaged{case.suffix}")
            assert outcome(case, case.content, path) == "events", case.name
            for _ in range(count):
                data = damage(draw, case.content)
                begin = time.process_time()
                result = outcome(case, data, path)
                longest[case.name] = max(longest.get(case.name, 0.0), time.process_time() - begin)
                found[case.name, result if result in ("error", "events") else "FAULT"] += 1
                if result not in ("error", "events"):
                    faults.setdefault(f"{case.name}: {result}", data)
    return found, longest, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="damaged files of each case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found, longest, faults = run(options.count, options.seed)
    for (name, result), number in sorted(found.items()):
        print(f"{name:16} {result:8} {number:6}")
    slowest = max(longest.values())
    print(f"{len(faults)} faults; {sum(found.values())} files; the slowest took {slowest:.3f} s of CPU time")
    print({name: round(each, 3) for name, each in longest.items()})
    for told in list(faults)[:20]:
        print(told[:600])


if __name__ == "__main__":
    main()
