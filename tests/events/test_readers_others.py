"""Readers against other libraries, where these are installed: their files read here, and ours read there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikewright.events import Events, read
from tests.events.aedat4_files import write_aedat4
from tests.events.damaged import rows_of
from tests.events.formats import Row, stream, write_dat, write_evt2, write_evt3


def columns(rows: list[Row]) -> list[np.ndarray[Any, Any]]:
    return [np.array(column) for column in zip(*rows)]


def same(events: Events, t: Any, x: Any, y: Any, p: Any) -> None:
    assert len(events) == len(t)
    for ours, theirs in ((events.t, t), (events.x, x), (events.y, y), (events.p, p)):
        assert np.array_equal(ours, np.asarray(theirs).astype(np.int64))


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"])
def test_aedat4_of_dv_processing(tmp_path: Path, compression: str) -> None:
    dv: Any = pytest.importorskip("dv_processing")
    if compression != "NONE":
        pytest.importorskip("lz4.frame" if "LZ4" in compression else "zstandard")
    rows = stream(1, 3000, 30, 40, 900, 16 * 10**14)
    path = tmp_path / "dv.aedat4"
    settings = dv.io.MonoCameraWriter.EventOnlyConfig(
        "camera", resolution=(40, 30), compression=getattr(dv.CompressionType, compression)
    )
    writer = dv.io.MonoCameraWriter(str(path), settings)
    for begin in range(0, len(rows), 1000):
        store = dv.EventStore()
        for t, x, y, p in rows[begin : begin + 1000]:
            store.push_back(t, x, y, bool(p))
        writer.writeEvents(store)
    del writer
    events = read(path)
    assert rows_of(events) == rows and (events.height, events.width) == (30, 40)


def test_aedat4_here_is_read_by_aedat(tmp_path: Path) -> None:
    aedat: Any = pytest.importorskip("aedat")
    rows, path = stream(2, 500, 128, 128, 900, 10**6), tmp_path / "own.aedat4"
    path.write_bytes(write_aedat4(rows))
    theirs = np.concatenate([packet["events"] for packet in aedat.Decoder(path)])
    same(read(path), theirs["t"], theirs["x"], theirs["y"], theirs["on"])


def test_aedat4_of_and_by_faery(tmp_path: Path) -> None:
    faery: Any = pytest.importorskip("faery")
    rows, path = stream(2, 500, 128, 128, 900, 10**6), tmp_path / "own.aedat4"
    path.write_bytes(write_aedat4(rows))
    source = faery.events_stream_from_file(path)
    theirs = source.to_array()
    same(read(path), theirs["t"], theirs["x"], theirs["y"], theirs["on"])
    for name in ("lz4", "zstd"):
        pytest.importorskip({"lz4": "lz4.frame", "zstd": "zstandard"}[name])
        source.to_file(tmp_path / "faery.aedat4", compression=(name, 1))
        assert rows_of(read(tmp_path / "faery.aedat4")) == rows


@pytest.mark.parametrize(("encoding", "suffix"), [("dat", ".dat"), ("evt2", ".raw")])
def test_dat_and_evt2_of_and_by_expelliarmus(tmp_path: Path, encoding: str, suffix: str) -> None:
    wizard: Any = pytest.importorskip("expelliarmus").Wizard
    rows = stream(3, 3000, 240, 304, 900, 5000)
    own, other = tmp_path / f"own{suffix}", tmp_path / f"other{suffix}"
    own.write_bytes(write_dat(rows) if encoding == "dat" else write_evt2(rows))
    theirs = wizard(encoding=encoding).read(own)
    same(read(own), theirs["t"], theirs["x"], theirs["y"], theirs["p"])
    wizard(encoding=encoding).save(other, theirs)
    assert rows_of(read(other, height=240, width=304)) == rows


@pytest.mark.parametrize("every_high", [False, True])
def test_evt_by_faery(tmp_path: Path, every_high: bool) -> None:
    """Within 16.7 s: what lies beyond is read otherwise by faery 0.7.1, unless every TIME_HIGH is written."""
    faery: Any = pytest.importorskip("faery")
    rows, path = stream(4, 3000, 480, 640, 900, 5000), tmp_path / "own.raw"
    writers = (lambda: write_evt3(rows, every_high=every_high), lambda: write_evt2(rows))
    for write in writers:
        path.write_bytes(write())
        theirs = faery.events_stream_from_file(path).to_array()
        same(read(path), theirs["t"], theirs["x"], theirs["y"], theirs["on"])


@pytest.mark.parametrize("gap", [900, 200_000])
def test_evt3_by_evt3(tmp_path: Path, gap: int) -> None:
    evt3: Any = pytest.importorskip("evt3")
    rows, path = stream(5, 2000, 720, 1280, gap, 2**24 - 300_000), tmp_path / "own.raw"
    assert rows[-1][0] < 2**24 or gap > 900
    path.write_bytes(write_evt3(rows, every_high=True))
    theirs = evt3.decode_file(str(path))
    same(read(path), theirs.timestamp, theirs.x, theirs.y, theirs.polarity)
