import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from spikewright.data.cifar import cifar10, cifar100
from spikewright.data.pickles import read_pickle
from spikewright.errors import DatasetCorrupt, DatasetMissing

TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


def pixels(seed: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def fill10(folder: Path, protocol: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate([*TRAIN, "test_batch"]):
        entries = {"batch_label": name, "labels": [seed, 9], "data": pixels(seed), "filenames": ["a.png", "b.png"]}
        (folder / name).write_bytes(pickle.dumps(entries, protocol=protocol))
    return folder


def fill100(folder: Path) -> Path:
    for seed, name in enumerate(["train", "test"]):
        entries = {"fine_labels": [99, seed], "coarse_labels": [1, 2], "data": pixels(seed)}
        (folder / name).write_bytes(pickle.dumps(entries, protocol=2))
    return folder


def python2_pickle(array: np.ndarray, labels: list[int]) -> bytes:
    """The stream that Python 2 and NumPy 1 wrote: byte strings for text, the old module name."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
    shape = b"(" + b"".join(number(length) for length in array.shape) + b"t"
    state = b"(" + number(1) + shape + dtype + b"I00\n" + text(array.tobytes()) + b"tb"
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + made + state + text(b"labels") + listed + b"u."


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("nested", [False, True])
def test_cifar10_batches_are_joined_in_order(tmp_path, protocol, nested):
    fill10(tmp_path / "cifar-10-batches-py" if nested else tmp_path, protocol)
    data = cifar10(tmp_path, verify=False)
    assert data.shape == (3, 32, 32) and (data.classes, data.augment) == (10, "crop-flip")
    expected = np.concatenate([pixels(seed) for seed in range(5)]).reshape(10, 3, 32, 32)
    assert torch.equal(data.train.images, torch.from_numpy(expected))
    assert data.train.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert torch.equal(data.test.images, torch.from_numpy(pixels(5).reshape(2, 3, 32, 32)))


def test_cifar100_uses_the_fine_labels(tmp_path):
    data = cifar100(fill100(tmp_path), verify=False)
    assert data.train.labels.tolist() == [99, 0] and data.test.labels.tolist() == [99, 1]
    assert data.classes == 100 and data.mean == (0.5071, 0.4867, 0.4408)


def test_a_pickle_of_python_2_is_read():
    content = python2_pickle(pixels(3), [4, 5])
    assert pickle.loads(content, encoding="bytes")[b"labels"] == [4, 5]
    entries = read_pickle(content, Path("x"))
    assert entries["labels"] == [4, 5]
    assert torch.equal(entries["data"], torch.from_numpy(pixels(3)))


@pytest.mark.parametrize("load", [cifar10, cifar100])
def test_other_batches_than_the_published_are_refused(tmp_path, load):
    path = (fill10 if load is cifar10 else fill100)(tmp_path) / ("data_batch_1" if load is cifar10 else "train")
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DatasetCorrupt, match=rf"{path.name} has MD5 {found}.*data\.verify=false"):
        load(tmp_path)


class Call:
    def __init__(self, function, *arguments):
        self.recipe = function, arguments

    def __reduce__(self):
        return self.recipe


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, "mkdir"), (eval, "eval"), (np.load, "load"), (getattr, "getattr"), (Path, "Path")],
)
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, function, name, protocol):
    trap = tmp_path / "sprung"
    argument = f"open({str(trap)!r}, 'w')" if function is eval else str(trap)
    fill10(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({"data": Call(function, argument)}, protocol=protocol))
    with pytest.raises(DatasetCorrupt, match=f"data_batch_3.*forbidden object '.*{name}'"):
        cifar10(tmp_path, verify=False)
    assert not trap.exists()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 3072), dtype=np.float32),
        np.asfortranarray(pixels(0)),
        np.array([{}], dtype=object),
        np.uint8(3),
        3 + 4j,
    ],
)
def test_only_row_major_bytes_are_accepted(value):
    with pytest.raises(DatasetCorrupt):
        read_pickle(pickle.dumps({"data": value}, protocol=4), Path("batch"))


def test_an_array_that_states_more_than_it_holds_is_refused():
    content = pickle.dumps({"data": pixels(0)}, protocol=2)
    assert content.count(b"K\x02M\x00\x0c") == 1
    with pytest.raises(DatasetCorrupt, match="row-major"):
        read_pickle(content.replace(b"K\x02M\x00\x0c", b"K\x7fM\x00\x0c"), Path("batch"))


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", pickle.dumps({"data": pixels(0)})[:-50], pickle.dumps([1, 2])]
)
def test_a_damaged_pickle_is_named(content):
    with pytest.raises(DatasetCorrupt, match="some-batch was read as pickled data"):
        read_pickle(content, Path("some-batch"))


@pytest.mark.parametrize(
    "entries",
    [
        {"data": pixels(0)},
        {"data": pixels(0), "labels": [1]},
        {"data": pixels(0), "labels": [1, "2"]},
        {"data": pixels(0)[:, :-1].copy(), "labels": [1, 2]},
        {"data": "text", "labels": [1, 2]},
    ],
)
def test_entries_that_make_no_batch_are_refused(tmp_path, entries):
    (fill10(tmp_path) / "data_batch_2").write_bytes(pickle.dumps(entries))
    with pytest.raises(DatasetCorrupt, match=r"data_batch_2 was read as a batch of 'cifar10'.*'labels'"):
        cifar10(tmp_path, verify=False)


def test_missing_batches_and_an_empty_folder_are_told_apart(tmp_path):
    with pytest.raises(DatasetMissing, match=r"data_batch_1, .*test_batch .*train/<class>.* holds 0 entries"):
        cifar10(tmp_path)
    (fill10(tmp_path) / "data_batch_4").unlink()
    with pytest.raises(DatasetMissing, match="looks for data_batch_4 in"):
        cifar10(tmp_path, verify=False)
