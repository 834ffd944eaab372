"""Data files that are not what they seem: nothing is run, waited for or kept, and memory is bounded."""

import builtins
import gzip
import os
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image

from spikewright.data import pickles
from spikewright.data.cifar import cifar10
from spikewright.data.files import read_bytes
from spikewright.data.folder import folder
from spikewright.data.idx import read_content
from spikewright.data.mnist import mnist
from spikewright.data.pickles import read_pickle
from spikewright.errors import ConfigError, DatasetCorrupt, DatasetMissing
from spikewright.graph.data.citation import read_neighbours
from spikewright.graph.data.inductive import inductive
from spikewright.graph.data.triples import read_triples

MIB = 2**20


def peak(call: Callable[[], Any]) -> int:
    """Return the most memory that Python held in a call that refuses a file."""
    tracemalloc.start()
    try:
        with pytest.raises(DatasetCorrupt):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """32 MiB of zeros in 32 KiB."""
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(32 * MIB)))
    return path


def test_a_compressed_file_takes_no_more_than_it_may(bomb: Path) -> None:
    assert len(read_content(bomb)) == 32 * MIB
    with pytest.raises(DatasetCorrupt, match=r"train-labels.*it holds more than 1 MiB, the most that is read"):
        read_content(bomb, MIB)
    assert peak(lambda: read_content(bomb, MIB)) < 4 * MIB


def test_a_published_file_takes_no_more_than_it_has(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(128 * MIB), 1))
    with pytest.raises(DatasetCorrupt, match=r"it holds more than 44.86 MiB"):
        mnist(tmp_path)
    assert peak(lambda: mnist(tmp_path)) < 96 * MIB
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 60_000, 28, 28) + bytes(47_040_000))
    with pytest.raises(DatasetCorrupt, match="has MD5"):
        mnist(tmp_path)


@pytest.mark.parametrize("read", [read_bytes, read_content, read_neighbours, read_triples])
def test_only_regular_files_are_data(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (tmp_path, "a directory")):
        with pytest.raises(DatasetCorrupt, match=f"it is {kind}, not a regular file. Nothing of it was used"):
            read(path)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "some").write_bytes(b"")
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(DatasetCorrupt, match=r"some was to be read as a data file, but Permission denied"):
        read_bytes(tmp_path / "some")


def test_a_data_set_with_a_pipe_among_its_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    os.mkfifo(tmp_path / "data_batch_1")
    for load in (mnist, cifar10):
        with pytest.raises(DatasetCorrupt, match="a named pipe"):
            load(tmp_path)


def pictures(root: Path) -> Path:
    for part in ("train", "test"):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(root / part / name / "one.png")
    return root / "train" / "a"


def test_a_picture_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(pictures(tmp_path) / "zero.png")
    with pytest.raises(DatasetCorrupt, match=r"zero.png was read as an image.*not a regular file"):
        folder(tmp_path)


def test_a_picture_is_what_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("another program was to be run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    (pictures(tmp_path) / "zero.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DatasetCorrupt, match=r"cannot identify image file"):
        folder(tmp_path)


def test_the_size_of_a_picture_is_looked_at_first(tmp_path: Path) -> None:
    path = pictures(tmp_path) / "zero.png"
    data = bytearray((path.parent / "one.png").read_bytes())
    data[16:24] = struct.pack(">2I", 9000, 9000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    with pytest.raises(DatasetCorrupt, match="it has 9000 x 9000 pixels, more than 67108864"):
        folder(tmp_path)


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x04" + b"".join(operations) + b"."


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def named(module: bytes, name: bytes) -> bytes:
    return text(module) + text(name) + b"\x93"


LARGE = 10**6
HOLDS = text(b"a" * LARGE) + b"\x94"  # a text, kept as object 0
TWICE = b"h\x00" + text(b"latin1") + b"\x86R"  # bytes of it, by a call of what is on top
ENCODES = named(b"_codecs", b"encode") + b"\x94"  # kept as object 1
DAMAGE: dict[str, tuple[bytes, str]] = {
    "a far place": (pickled(b"K\x01r" + struct.pack("<I", 2**31)), "stores its object number 3 under the number"),
    "a far place, as text": (b"\x80\x04K\x01p2147483648\n.", "stores its object number"),
    "a long text": (pickled(b"\x8e" + struct.pack("<Q", 2**40)), "expected 1099511627776 bytes"),
    "many copies": (
        pickled(HOLDS, b"0", ENCODES, b"0]", *[b"(h\x01" + TWICE + b"e"] * 50),
        "it asks for more bytes than it holds",
    ),
    "a long number": (b"L" + b"1" * 5000 + b"L\n.", "4300"),
    "a deep list": (pickled(b"]" * 20_000 + b"a" * 19_999), "some"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_pickle_takes_no_more_memory_than_its_size_warrants(name: str) -> None:
    content, message = DAMAGE[name]
    with pytest.raises(DatasetCorrupt, match=message):
        read_pickle(content, Path("some"))
    assert peak(lambda: read_pickle(content, Path("some"))) < 100 * max(len(content), MIB // 4)


def test_one_array_under_many_names_is_no_larger_than_the_file() -> None:
    raw, array = b"B" + struct.pack("<I", LARGE) + bytes(LARGE) + b"\x94", named(b"numpy", b"ndarray")
    make = named(b"numpy.core.multiarray", b"_reconstruct") + array + b"K\x00\x85" + b"C\x01b" + b"\x87R"
    dtype = named(b"numpy", b"dtype") + text(b"u1") + b"\x85R"
    state = b"(K\x01J" + struct.pack("<i", LARGE) + b"\x85" + dtype + b"\x89h\x00tb"
    content = pickled(raw, b"0}(", *[text(b"%d" % i) + make + state for i in range(40)], b"u")
    with pytest.raises(DatasetCorrupt, match="its arrays are larger than the file"):
        read_pickle(content, Path("some"))
    one = pickled(raw, b"0}(", text(b"0") + make + state, b"u")
    assert read_pickle(one, Path("some"))["0"].shape == (LARGE,)


MARKED = b"}" + text(b"mark") + text(b"left") + b"s"


@pytest.mark.parametrize("name", sorted(pickles._ALLOWED))
@pytest.mark.parametrize("state", [MARKED, b"N" + MARKED + b"\x86", b"N}" + text(b"__defaults__") + b")s\x86"])
def test_a_pickle_changes_nothing_for_the_next_one(name: tuple[str, str], state: bytes) -> None:
    before = {key: dict(vars(value)) for key, value in pickles._ALLOWED.items()}
    content = pickled(named(*(part.encode() for part in name)), state + b"b")
    with pytest.raises(DatasetCorrupt):
        read_pickle(content, Path("some"))
    for key, value in pickles._ALLOWED.items():
        assert vars(value) == before[key] and not hasattr(value, "mark")


def test_a_graph_changes_nothing_for_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "ind.cora.graph"
    path.write_bytes(pickled(named(b"collections", b"defaultdict"), MARKED + b"b"))
    with pytest.raises(DatasetCorrupt, match="dictionary from whole numbers"):
        read_neighbours(path)
    path.write_bytes(pickle.dumps({1: [2]}))
    assert read_neighbours(path) == {1: [2]} and not hasattr(builtins.list, "mark")


@pytest.mark.parametrize("split", ["../other", "/etc", "a/b", "..", ".", "", "a\\b", 3])
def test_a_split_lies_inside_the_data_folder(tmp_path: Path, split: Any) -> None:
    for name in ("inside", "other", "other_ind"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=r"inductive\(split=.* name of a folder inside data_dir"):
        inductive(split, tmp_path / "inside")


def test_a_split_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(DatasetMissing, match=r"train.txt"):
        inductive("mine", tmp_path)
