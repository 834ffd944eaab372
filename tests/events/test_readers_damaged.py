"""Files that are cut, damaged or foreign: an error that says where, and never events that the bytes do not say."""

import re
import struct
from pathlib import Path

import pytest

from spikewright.errors import DatasetCorrupt
from spikewright.events import (
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
from tests.events.damaged import rows_of, run, write_spikes
from tests.events.formats import EVT3_HEAD, FORMATS, head, stream, write_aedat2, write_aedat3, write_dat, write_evt2

READERS = [read_nmnist, read_aedat2, read_aedat3, read_aedat4, read_dat, read_evt2, read_evt3]


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_anywhere_in_the_last_events_is_told(tmp_path: Path, name: str) -> None:
    form = FORMATS[name]
    rows = stream(1, 60, form.height, form.width, form.gap)
    data, path = form.write(rows), tmp_path / f"x{form.suffix}"
    begin = data.rindex(struct.pack("<hh", 1, 1)) if name == "aedat3" else len(data) - 40
    for stop in range(begin + 1, len(data)):
        path.write_bytes(data[:stop])
        if form.unit and (len(data) - stop) % form.unit == 0:
            found = rows_of(read(path))
            assert found == form.slow(data[:stop]) == rows[: len(found)]
        else:
            place = begin if name == "aedat3" else stop - stop % form.unit if name == "nmnist" else None
            with pytest.raises(DatasetCorrupt, match=rf"at byte {place or r'[0-9]+'} .*it was cut") as caught:
                read(path)
            assert str(path) in str(caught.value)


@pytest.mark.long
def test_a_cut_anywhere_in_aedat4_is_told(tmp_path: Path) -> None:
    rows, path = stream(1, 60, 128, 128, 900), tmp_path / "x.aedat4"
    data = write_aedat4(rows, size=30)
    for stop in [*range(1, len(data) - 700, 31), *range(len(data) - 700, len(data))]:  # the last packet, and the table
        path.write_bytes(data[:stop])
        with pytest.raises(DatasetCorrupt, match=r"at byte \d+"):
            read(path)
    data = write_aedat4(rows, size=30, closed=False)
    whole = len(write_aedat4(rows[:30], closed=False))
    for stop in range(whole, len(data)):
        path.write_bytes(data[:stop])
        if stop == whole:
            assert rows_of(read(path)) == rows[:30]
        else:
            with pytest.raises(DatasetCorrupt, match=rf"at byte {whole} .*it was cut"):
                read(path)


@pytest.mark.long
def test_a_cut_anywhere_in_shd_is_told(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    write_spikes(path, [([0.5, 0.6], [1, 2])], [0])
    data = path.read_bytes()
    for stop in range(1, len(data), 37):
        path.write_bytes(data[:stop])
        with pytest.raises(DatasetCorrupt):
            read(path)


FOREIGN = {
    "nothing": b"",
    "text": b"hello, this is a text\n" * 20,
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "AEDAT 1": b"#!AER-DAT1.0\r\n" + bytes(60),
    "EVT 2.1": head("evt 2.1|geometry 640x480|end") + bytes(80),
    "npy": b"\x93NUMPY\x01\x00" + bytes(100),
    "zeros": bytes(64),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_files_are_refused_by_every_reader(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x.raw"
    path.write_bytes(FOREIGN[what])
    with pytest.raises(DatasetCorrupt, match=r"byte 0") as caught:
        read(path)
    assert str(path) in str(caught.value)
    if what not in ("nothing", "EVT 2.1"):
        assert repr(FOREIGN[what][:16]) in str(caught.value) and "Known: N-MNIST" in str(caught.value)
    for reader in READERS:
        if what == "zeros" and reader is read_nmnist:
            continue  # events at time 0: a file without a header can be anything
        with pytest.raises(DatasetCorrupt, match=r"at byte \d+"):
            reader(path)


@pytest.mark.parametrize("name", [*FORMATS, "aedat4"])
def test_readers_refuse_the_files_of_the_others(tmp_path: Path, name: str) -> None:
    form = FORMATS.get(name)
    rows = stream(0, 33, 34, 34, 1000)
    path = tmp_path / "x"
    path.write_bytes(form.write(rows) if form else write_aedat4(rows))
    for reader in READERS:
        if reader.__name__ != f"read_{name}":
            with pytest.raises(DatasetCorrupt, match=r"at byte \d+"):
                reader(path)
    if name == "nmnist":
        with pytest.raises(DatasetCorrupt, match="no reader here knows"):
            read(path)


def test_spikes_refuse_what_is_no_such_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    path.write_bytes(b"#!AER-DAT2.0\r\n")
    with pytest.raises(DatasetCorrupt, match="HDF5 finds OSError"):
        read_spikes(path)
    with h5py.File(path, "w") as file:
        file["else"] = 3
    with pytest.raises(DatasetCorrupt, match="HDF5 finds KeyError"):
        read(path)
    for times, units, told in (
        ([-0.5], [1], "time -0.5"),
        ([0.5], [700], "channel 700"),
        ([float("nan")], [1], "time nan"),
        ([0.5, 0.6], [1], "not as many"),
    ):
        write_spikes(path, [(times, units)], [0])
        with pytest.raises(DatasetCorrupt, match=told):
            read(path)
    write_spikes(path, [([0.5], [1])], [0, 1])
    with pytest.raises(DatasetCorrupt, match="the numbers of rows are"):
        read(path)
    with pytest.raises(DatasetCorrupt, match="No such file"):
        read_spikes(tmp_path / "none.h5")


@pytest.mark.parametrize("chunks", [None, (2,)])
def test_a_row_longer_than_its_file_is_refused_before_room_is_made(tmp_path: Path, chunks: tuple[int] | None) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    write_spikes(path, [([0.1] * n, [1] * n) for n in (301, 302, 303)], [0, 1, 0], chunks=chunks)
    assert len(read(path, row=2)) == 303
    data = path.read_bytes()
    assert data.count(struct.pack("<I", 303)) == 2
    place = data.index(struct.pack("<I", 303))
    path.write_bytes(data[:place] + struct.pack("<I", 2**31) + data[place + 4 :])
    with pytest.raises(DatasetCorrupt, match=rf"at byte {place} row 2 says it has 2147483648 numbers"):
        read(path, row=2)
    assert len(read(path, row=1)) == 302


def wrong(tmp_path: Path, data: bytes, offset: int, told: str, suffix: str = "") -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(DatasetCorrupt, match=rf"at byte {offset} .*{told}"):
        read(path)


def test_the_byte_of_what_is_wrong_is_named(tmp_path: Path) -> None:
    good = write_aedat2([(1, 2, 3, 1)])
    wrong(tmp_path, good + struct.pack(">II", 1 << 20, 3), len(good), "0x00100000, with bits that a DVS128")
    wrong(tmp_path, bytes([1, 2, 0, 0, 5, 40, 2, 0, 0, 5]), 5, "event 1 is at x=40, y=2, outside", ".bin")
    wrong(tmp_path, bytes([1, 2, 0, 0, 5, 0, 241, 0, 0, 5]), 5, "event 1 is at x=0, y=241", ".bin")
    good = write_dat([(1, 2, 3, 1)])
    wrong(tmp_path, good + struct.pack("<II", 5, 2 << 28), len(good), "event 1 has the polarity 2")
    wrong(tmp_path, good + struct.pack("<II", 5, 400), len(good), "event 1 is at x=400, y=0")
    wrong(tmp_path, head("Version 1|Height 5|Width 5") + bytes([0, 8]), 0, "Version 1")
    place = len(head("Version 2|Height 5|Width 5"))
    wrong(tmp_path, head("Version 2|Height 5|Width 5") + bytes([0, 12]), place, r"are \[0, 12\], not")
    wrong(tmp_path, write_dat([])[:-1], len(write_dat([])) - 2, r"are \[12\], not")
    good = write_evt2([(1, 2, 3, 1)])
    wrong(tmp_path, good + struct.pack("<I", 3 << 28), len(good), "reserved type 3")
    wrong(tmp_path, good + struct.pack("<I", 480), len(good), "event 1 is at x=0, y=480")
    wrong(tmp_path, good.replace(b"640x480", b"640x481"), 0, "two heights: 480 and 481|two heights: 481 and 480")
    wrong(tmp_path, good.replace(b"EVT2", b"EVT3"), 0, "two versions of EVT: 3.0 and 2.0")
    wrong(tmp_path, head("evt 3.0|endianness big|geometry 9x9"), 0, "endianness big")
    words = [0x8000, 0x0001, 0x34E6, 0x4800]
    data = head(EVT3_HEAD) + struct.pack("<4H", *words)
    wrong(tmp_path, data.replace(b"1280", b"1264"), len(head(EVT3_HEAD)) + 6, "event 0 is at x=1265, y=1")
    wrong(tmp_path, data + struct.pack("<H", 0x9000), len(data), "reserved type 9")


def test_packets_of_aedat3_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    rows = stream(0, 20, 128, 128, 90)
    data = write_aedat3(rows, size=10)
    start = data.index(b"END-HEADER\r\n") + 12
    second = start + 28 + 80

    def altered(place: int, code: str, value: int) -> bytes:
        return data[:place] + struct.pack(code, value) + data[place + struct.calcsize(code) :]

    wrong(tmp_path, altered(second + 24, "<i", 9), second, "says 9 valid events, but 10 are marked so")
    wrong(tmp_path, altered(second + 20, "<i", 11), second, "the header of a packet says")
    wrong(tmp_path, altered(second + 4, "<i", 4), second, "polarity events have 4 bytes")
    wrong(tmp_path, altered(second + 2, "<h", 2), second, "is of source 2, but others are of 1")
    wrong(tmp_path, altered(second + 12, "<i", -1), second, "the header of a packet says")
    wrong(tmp_path, altered(second + 28 + 8 + 4, "<i", -5), second + 28 + 8 + 4, "event 11 has a time below 0")
    wrong(tmp_path, altered(second + 28, "<I", 200 << 17 | 1), second + 28, "at x=200, y=0, outside")
    wrong(tmp_path, data.replace(b"RAW", b"PNG"), 0, "the header says '#Format: PNG'")
    wrong(tmp_path, data[: start - 8], start - 8, "without the line #!END-HEADER")


def test_aedat4_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    rows = stream(0, 100, 128, 128, 90)
    data, path = write_aedat4(rows), tmp_path / "x.aedat4"
    for found, instead, told in (
        (b"sizeX", b"sizeQ", "stream 0 has no size"),
        (b"EVTS<", b"FRME<", "the streams of events are "),
        (b"<dv ", b"<!v ", "declares entities"),
        (b"</dv>", b"</dw>", "no XML"),
        (b'>128</attr><attr key="sizeY"', b'>12a</attr><attr key="sizeY"', "has the sizes"),
        (b"EVTS\x06", b"EVTX\x06", "a packet of events is damaged"),
        (b"FTAB", b"FTAC", "the table of packets is damaged"),
    ):
        assert found in data
        path.write_bytes(data.replace(found, instead))
        with pytest.raises(DatasetCorrupt, match=rf"at byte \d+ .*{told}"):
            read_aedat4(path)
    first = data.index(b"EVTS\x06") + 4 + 8 + 8
    path.write_bytes(data[:first] + struct.pack("<I", 49) + data[first + 4 :])
    with pytest.raises(DatasetCorrupt, match=r"it lists \(\d+, 0, 832, 50\), but there is \(\d+, 0, 832, 49\)"):
        read(path)
    for stream_id, told in ((2, "and 2 is to be read"), (None, "x=300")):
        path.write_bytes(write_aedat4([(1, 300, 5, 1)]))
        with pytest.raises(DatasetCorrupt, match=told):
            read_aedat4(path, stream=stream_id)


@pytest.mark.long
def test_damaged_files_give_errors_or_what_their_bytes_say() -> None:
    found, longest, faults = run(60)
    assert not faults, "\n".join(faults)
    assert max(longest.values()) < 5
    for name in {name for name, _ in found}:
        assert found[name, "error"] >= 10 and found[name, "events"] >= 1, name


def test_an_error_has_four_parts(tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    path.write_bytes(write_dat([(1, 2, 3, 1)])[:-3])
    with pytest.raises(DatasetCorrupt) as caught:
        read(path)
    assert re.fullmatch(
        rf"{re.escape(str(path))} was read as Prophesee DAT of version 2, but at byte \d+ its last 5 bytes are no "
        r"whole word of 8: it was cut\. Nothing of the file is used, because events around such a place may be wrong "
        r"too\. Fetch the file again, or record it anew\.",
        str(caught.value),
    )
