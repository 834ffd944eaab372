import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from spikewright.data.fashion_mnist import fashion
from spikewright.data.idx import parse_idx
from spikewright.data.mnist import mnist, read_part
from spikewright.errors import DatasetCorrupt, DatasetMissing, InputError

LENGTHS = {"train": 6, "t10k": 3}


def idx(values: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + values.numpy().tobytes()


def images(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


def labels(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.uint8) % 10


def fill(folder: Path, pattern: str = "{part}-{kind}-idx{axes}-ubyte") -> Path:
    for part, n in LENGTHS.items():
        for kind, values in (("images", images(n)), ("labels", labels(n))):
            name = pattern.format(part=part, kind=kind, axes=values.dim())
            content = idx(values)
            (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


@pytest.mark.parametrize(
    "pattern",
    [
        "{part}-{kind}-idx{axes}-ubyte",
        "{part}-{kind}-idx{axes}-ubyte.gz",
        "{part}-{kind}.idx{axes}-ubyte",
        "{part}-{kind}.idx{axes}-ubyte.gz",
    ],
)
def test_every_spelling_of_the_files_is_read(tmp_path, pattern):
    data = mnist(fill(tmp_path, pattern), verify=False)
    assert data.shape == (1, 28, 28) and data.classes == 10
    assert torch.equal(data.train.images[:, 0], images(6))
    assert torch.equal(data.test.images[:, 0], images(3))
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5] and data.test.labels.tolist() == [0, 1, 2]


def test_fashion_mnist_reads_the_same_layout(tmp_path):
    data = fashion(str(fill(tmp_path)))
    assert (data.name, data.mean, data.std) == ("fashion_mnist", (0.2860,), (0.3530,))
    assert torch.equal(data.test.images[:, 0], images(3))


def test_content_other_than_mnist_is_refused_with_both_sums(tmp_path):
    fill(tmp_path, "{part}-{kind}-idx{axes}-ubyte.gz")
    found = hashlib.md5(idx(images(6))).hexdigest()
    with pytest.raises(DatasetCorrupt, match=r"--set data\.verify=false") as error:
        mnist(tmp_path)
    for piece in ("train-images-idx3-ubyte.gz", found, "6bbc9ace898e44ae57da46a324031adb", "Fashion-MNIST"):
        assert piece in str(error.value)


def test_the_sum_is_taken_over_the_decompressed_content(tmp_path):
    fill(tmp_path, "{part}-{kind}-idx{axes}-ubyte.gz")
    right = {
        "t10k-images": hashlib.md5(idx(images(3))).hexdigest(),
        "t10k-labels": hashlib.md5(idx(labels(3))).hexdigest(),
    }
    assert len(read_part("mnist", tmp_path, "t10k", right)) == 3
    with pytest.raises(DatasetCorrupt, match="t10k-labels"):
        read_part("mnist", tmp_path, "t10k", right | {"t10k-labels": right["t10k-images"]})


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-20],
        lambda raw: b"<html>",
        lambda raw: raw[:10] + b"\xff" * 30,
        lambda raw: raw[:30] + b"?" + raw[31:],
    ],
)
def test_damaged_gzip_is_named(tmp_path, damage):
    fill(tmp_path, "{part}-{kind}-idx{axes}-ubyte.gz")
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetCorrupt, match=r"train-labels-idx1-ubyte\.gz was read as gzip"):
        mnist(tmp_path, verify=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(labels(4)), "starts with 0x00000801"),
        (b"", "has 0 bytes"),
        (bytes([0, 0, 8, 3, 0, 0]), "has 6 bytes"),
        (bytes([0, 0, 13, 3]) + idx(images(1))[4:], "starts with 0x00000d03"),
        (idx(images(2))[:-1], r"\[2, 28, 28\], that is 1568 elements, but 1567 bytes"),
        (idx(images(2)) + b"!", "but 1569 bytes"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 28, 28), "0 elements, but 0 bytes"),
    ],
)
def test_what_is_no_image_array_is_refused(content, message):
    with pytest.raises(DatasetCorrupt, match=message):
        parse_idx(content, 3, Path("some-file"))


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    (fill(tmp_path) / "t10k-labels-idx1-ubyte").rename(tmp_path / "t10k-labels.txt")
    with pytest.raises(DatasetMissing, match=r"t10k-labels\.idx1-ubyte\.gz in .*holds 4 entries: .*t10k-labels\.txt"):
        mnist(tmp_path, verify=False)


def test_labels_must_be_as_many_as_images_and_in_range(tmp_path):
    path = fill(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(idx(labels(5)))
    with pytest.raises(DatasetCorrupt, match="6 images but 5 labels"):
        mnist(tmp_path, verify=False)
    path.write_bytes(idx(torch.tensor([0, 1, 2, 3, 10, 11], dtype=torch.uint8)))
    with pytest.raises(InputError, match=r"train label at index 4 is 10 \(2 of 6"):
        mnist(tmp_path, verify=False)
