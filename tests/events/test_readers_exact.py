"""Readers against the definitions of their formats, event by event."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from spikewright.errors import ConfigError, DatasetCorrupt, InputError
from spikewright.events import (
    Events,
    read,
    read_aedat2,
    read_aedat3,
    read_aedat4,
    read_dat,
    read_evt2,
    read_evt3,
    read_nmnist,
    read_spikes,
)
from tests.events.aedat4_files import write_aedat4
from tests.events.damaged import rows_of, write_spikes
from tests.events.formats import (
    EVT3_HEAD,
    FORMATS,
    Row,
    head,
    stream,
    write_aedat2,
    write_aedat3,
    write_dat,
    write_evt2,
    write_evt3,
    write_nmnist,
)

READERS = {
    "nmnist": read_nmnist,
    "aedat2": read_aedat2,
    "aedat3": read_aedat3,
    "dat": read_dat,
    "evt2": read_evt2,
    "evt3": read_evt3,
}


def stored(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def across(limit: int, rows: list[Row]) -> list[Row]:
    """Return the rows moved in time, so that one in the middle is at a limit of the clock."""
    moved = limit - rows[len(rows) // 2][0]
    rows = [(t + moved, x, y, p) for t, x, y, p in rows]
    assert 0 <= rows[0][0] < limit < rows[-1][0]
    return rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", READERS)
def test_events_are_those_of_the_definition(tmp_path: Path, name: str, seed: int) -> None:
    form = FORMATS[name]
    rows = stream(seed, 1000, form.height, form.width, form.gap, 1234)
    data = form.write(rows)
    assert form.slow(data) == rows
    for reader in (READERS[name], read):
        events = reader(stored(tmp_path / f"x{form.suffix}", data))
        assert rows_of(events) == rows
        assert (events.height, events.width, events.polarities, events.left_out) == (form.height, form.width, 2, {})
        assert [a.dtype for a in (events.t, events.x, events.y, events.p)] == [np.int64, np.int32, np.int32, np.uint8]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("closed", [True, False])
def test_aedat4_is_read(tmp_path: Path, seed: int, closed: bool) -> None:
    rows = stream(seed, 500, 128, 128, 10**6, 16 * 10**14)
    path = stored(tmp_path / "x.aedat4", write_aedat4(rows, closed=closed, other=3))
    assert rows_of(read_aedat4(path)) == rows_of(read(path)) == rows
    assert read(path).left_out == {"packets of FRME": 10}


@pytest.mark.parametrize("name", ["aedat2", "aedat3", "dat", "evt2", "aedat4"])
def test_events_out_of_order_stay_in_the_order_of_the_file(tmp_path: Path, name: str) -> None:
    rows = stream(5, 300, 128, 128, 60)
    draw = random.Random(0)
    for at in range(0, 300, 20):
        part = rows[at : at + 20]
        draw.shuffle(part)
        rows[at : at + 20] = part
    if name == "evt2":  # within one time word
        rows = [(t % 64 + 6400, x, y, p) for t, x, y, p in rows]
    data = write_aedat4(rows) if name == "aedat4" else FORMATS[name].write(rows)
    events = read(stored(tmp_path / "x.any", data))
    assert rows_of(events) == rows and not events.in_order
    assert rows_of(events.sorted()) == sorted(rows, key=lambda row: row[0])


def test_marks_of_nmnist_add_to_all_later_times(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    event = bytes([3, 4, 0, 0, 7])
    events = read_nmnist(stored(path, event + bytes([0, 240, 0, 0, 0]) + event + bytes([9, 240, 0xFF, 1, 1]) + event))
    assert events.t.tolist() == [7, 8199, 16391] and events.left_out == {"overflow marks": 2}
    rows = stream(0, 400, 34, 34, 60_000, 2**23 - 10**6)
    assert rows[-1][0] > 2**23
    assert rows_of(read_nmnist(stored(path, write_nmnist(rows)))) == rows
    wide = [(5, 239, 179, 1)]
    assert rows_of(read_nmnist(stored(path, write_nmnist(wide)), height=180, width=240)) == wide


@pytest.mark.parametrize("name", ["aedat2", "dat"])
def test_32_bits_of_time_are_continued(tmp_path: Path, name: str) -> None:
    rows = across(2**32, stream(1, 300, 128, 128, 2000))
    rows[160:163] = rows[160:163][::-1]
    assert rows_of(read(stored(tmp_path / "x", FORMATS[name].write(rows)))) == rows
    far = [(0, 1, 1, 1), (2**31, 1, 1, 1)]
    with pytest.raises(DatasetCorrupt, match=r"event 1 has the time 2147483648 after 0 us.*long silence, or an event"):
        read(stored(tmp_path / "x", FORMATS[name].write(far)))


def test_times_of_aedat3_have_31_bits_and_an_overflow(tmp_path: Path) -> None:
    rows = across(2**31, stream(1, 300, 128, 128, 4000))
    assert rows_of(read(stored(tmp_path / "x", write_aedat3(rows)))) == rows


def test_what_aedat3_marks_as_invalid_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = stream(2, 200, 128, 128, 2000)
    events = read(stored(tmp_path / "x", write_aedat3(rows, invalid=(0, 7, 199), other=True)))
    assert rows_of(events) == [row for index, row in enumerate(rows) if index not in (0, 7, 199)]
    assert events.left_out == {"special events": 8, "invalid events": 3}
    assert events.at(slice(2)).left_out == events.left_out


def test_special_events_of_aedat2_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = stream(2, 100, 128, 128, 2000)
    events = read(stored(tmp_path / "x", write_aedat2(rows, special=(0, 50))))
    assert rows_of(events) == rows and events.left_out == {"special events": 2}
    bit31 = b"#!AER-DAT2.0\r\n" + struct.pack(">II", 1 << 31 | 5, 3)
    assert read(stored(tmp_path / "x", bit31)).left_out == {"special events": 1}


@pytest.mark.parametrize("gap", [2000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("every_high", [False, True])
def test_evt3_goes_on_across_16_seconds_however_sparse(tmp_path: Path, gap: int, every_high: bool) -> None:
    rows = [(2**24 - gap * 3 // 2 + step * gap * 9 // 10, step, 20, step % 2) for step in range(40)]
    assert rows[0][0] < 2**24 < rows[2][0]
    assert rows_of(read_evt3(stored(tmp_path / "x.raw", write_evt3(rows, every_high=every_high)))) == rows


def test_evt2_goes_on_across_its_34_bits(tmp_path: Path) -> None:
    rows = across(2**34, stream(3, 200, 480, 640, 10**6))
    assert rows_of(read_evt2(stored(tmp_path / "x.raw", write_evt2(rows)))) == rows


@pytest.mark.parametrize(("high", "told"), [((9, 8), "16.7731"), ((2, 4090), "16.7444"), ((0, 3073), "12.587")])
def test_a_clock_that_may_have_run_back_is_refused(tmp_path: Path, high: tuple[int, int], told: str) -> None:
    words = [0x8000 | high[0], 0x6000, 0x0001, 0x2001, 0x8000 | high[1], 0x2002]
    path = stored(tmp_path / "x.raw", head(EVT3_HEAD) + struct.pack("<6H", *words))
    offset = len(head(EVT3_HEAD)) + 8
    with pytest.raises(DatasetCorrupt, match=rf"at byte {offset} the clock goes from {high[0]} to {high[1]} .*{told}"):
        read(path)


def test_words_of_evt_that_are_no_events_are_counted(tmp_path: Path) -> None:
    rows = [(t, x, y, p) for t, (_, x, y, p) in enumerate(stream(2, 50, 480, 640, 10))]
    three, two = write_evt3(rows, extra=True), write_evt2(rows, extra=True)
    events = read(stored(tmp_path / "x.raw", three))
    assert rows_of(events) == rows and events.left_out == {"triggers": 50, "other words": 150}
    events = read(stored(tmp_path / "x.raw", two))
    assert rows_of(events) == rows and events.left_out == {"triggers": 1, "other words": 2}


def test_events_of_evt_before_the_first_time_are_counted(tmp_path: Path) -> None:
    words = [0x2005, 0x0003, 0x6001, 0x2006, 0x8000, 0x4FFF, 0x2007, 0x3808, 0x5181, 0x4801]
    events = read(stored(tmp_path / "x.raw", head(EVT3_HEAD) + struct.pack("<10H", *words)))
    assert rows_of(events) == [(0, 7, 3, 0), (0, 8, 3, 1), (0, 15, 3, 1), (0, 16, 3, 1), (0, 27, 3, 1)]
    assert events.left_out == {"events before the first time, row or base": 14}
    words = [1 << 28 | 5 << 11 | 6, 8 << 28 | 2, 1 << 28 | 3 << 22 | 5 << 11 | 6]
    events = read(stored(tmp_path / "x.raw", head("evt 2.0|geometry 640x480") + struct.pack("<3I", *words)))
    assert rows_of(events) == [(131, 5, 6, 1)] and events.left_out == {"events before the first time": 1}


def test_a_time_word_of_evt3_puts_the_lower_bits_to_zero(tmp_path: Path) -> None:
    words = [0x8001, 0x6064, 0x0000, 0x2001, 0x8001, 0x2002, 0x8002, 0x2003, 0x6001, 0x2004]
    events = read(stored(tmp_path / "x.raw", head(EVT3_HEAD) + struct.pack("<10H", *words)))
    assert events.t.tolist() == [4196, 4096, 8192, 8193]


EMPTY = {
    "aedat2": write_aedat2([]),
    "aedat3": write_aedat3([]),
    "aedat4": write_aedat4([]),
    "dat": write_dat([]),
    "evt2": write_evt2([]),
    "evt3": write_evt3([]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_header_without_events_is_an_empty_recording(tmp_path: Path, name: str) -> None:
    events = read(stored(tmp_path / "x", EMPTY[name]))
    assert len(events) == 0 and events.duration == 0 and events.t.dtype == np.int64


def test_the_size_of_the_sensor_may_be_given(tmp_path: Path) -> None:
    rows: list[Row] = [(5, 300, 200, 1)]
    for data in (write_dat(rows, "Version 2"), write_evt2(rows, "evt 2.0"), write_evt3(rows, "evt 3.0|end")):
        path = stored(tmp_path / "x", data)
        with pytest.raises(DatasetCorrupt, match=r"without the size of the sensor.*Give the height and width"):
            read(path)
        assert rows_of(read(path, height=240, width=304)) == rows
    path = stored(tmp_path / "x", write_aedat3(rows, source="NewCamera"))
    with pytest.raises(DatasetCorrupt, match=r"the cameras \['NewCamera'\], whose size is not known"):
        read(path)
    assert rows_of(read(path, height=240, width=304)) == rows
    assert (read(stored(path, write_aedat3([], source="DAVIS240C"))).height) == 180
    with pytest.raises(ConfigError, match="read_aedat2"):
        read(stored(path, write_aedat2([])), height=128)
    with pytest.raises(ConfigError, match="height"):
        read_dat(path, height=0)


def test_pixels_have_all_their_bits_and_end_at_the_size(tmp_path: Path) -> None:
    path, size = tmp_path / "x", "height 2048|width 2048"
    rows: list[Row] = [(t, x, y, t % 2) for t, (x, y) in enumerate([(2047, 0), (0, 2047), (1365, 682), (682, 1365)])]
    for data in (write_evt2(rows, f"evt 2.0|{size}"), write_evt3(rows, f"evt 3.0|{size}"), write_dat(rows, size)):
        assert rows_of(read(stored(path, data))) == rows
    far: list[Row] = [(0, 16383, 9999, 1)]
    assert rows_of(read(stored(path, write_dat(far, "Width 16384|Height 10000")))) == far
    assert rows_of(read_aedat3(stored(path, write_aedat3(far)), height=10000, width=16384)) == far
    for x, y in ((34, 0), (0, 34)):
        with pytest.raises(DatasetCorrupt, match=rf"at byte 0 event 0 is at x={x}, y={y}, outside"):
            read_nmnist(stored(path, write_nmnist([(0, x, y, 1)])))


def test_spikes_are_read_by_row(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path, draw = tmp_path / "shd.h5", np.random.default_rng(0)
    rows = [(np.sort(draw.uniform(0, 1.4, n)), draw.integers(0, 700, n)) for n in (0, 1, 500, 90)]
    rows[3] = (rows[3][0][::-1], rows[3][1])  # not in order
    write_spikes(path, rows, [0, 1, 0, 1])
    for index, (times, units) in enumerate(rows):
        events = read_spikes(path, index)
        expected = [round(float(t) * 1e6) for t in times.astype(np.float16)]
        assert events.t.tolist() == expected and events.x.tolist() == units.tolist()
        assert (events.height, events.width, events.polarities) == (1, 700, 1) and not events.y.any()
    assert not read(path, row=3).in_order
    with pytest.raises(InputError, match="holds 4 recordings, without saying which"):
        read(path)
    with pytest.raises(InputError, match=r"row 4 of .* holds 4 recordings"):
        read(path, row=4)
    write_spikes(path, rows[1:2], [0])
    assert len(read(path)) == 1


def test_times_of_shd_lie_on_the_grid_of_float16(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    write_spikes(tmp_path / "x.h5", [(np.linspace(1, 1.3, 2000), np.zeros(2000))], [0])
    steps = np.diff(read(tmp_path / "x.h5").t)
    assert set(steps[steps > 0].tolist()) == {976, 977}


def test_what_is_left_out_is_added_up() -> None:
    from spikewright.events.recording import joined

    none = np.zeros(0, np.int64)
    parts = [Events(none, none, none, none, 1, 1, left_out=counts) for counts in ({"a": 2}, {"a": 1, "b": 4})]
    assert joined(parts).left_out == {"a": 3, "b": 4}
