from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikewright.data.cifar import cifar10
from spikewright.data.folder import folder
from spikewright.errors import DatasetCorrupt, DatasetMissing


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Classes whose creation order is not the alphabetical one, with a file that is no image."""
    for seed, name in enumerate(["train/dog/1", "train/cat/2", "train/cat/1", "test/dog/1", "test/cat/1"]):
        save(tmp_path / f"{name}.png", pixels(seed, 5, 6, 3))
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    return tmp_path


def test_classes_and_files_are_sorted(root):
    data = folder(root)
    assert (data.classes, data.shape, data.augment) == (2, (3, 5, 6), "none")
    assert data.train.labels.tolist() == [0, 0, 1] and data.test.labels.tolist() == [0, 1]
    expected = torch.stack([torch.from_numpy(pixels(seed, 5, 6, 3)).permute(2, 0, 1) for seed in (2, 1, 0)])
    assert torch.equal(data.train.images, expected)
    reference = expected.double() / 255
    assert data.mean == pytest.approx(reference.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(reference.std((0, 2, 3), correction=0).tolist())


def test_grey_images_have_one_channel(tmp_path):
    for part in ("train", "test"):
        save(tmp_path / part / "a" / "1.png", pixels(0, 4, 4))
    data = folder(tmp_path)
    assert torch.equal(data.train.images[0, 0], torch.from_numpy(pixels(0, 4, 4)))


def test_progress_counts_every_image(root):
    seen = []
    folder(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 5, 3), (5, 6)])
def test_an_odd_size_is_named(root, shape):
    save(root / "train/dog/odd.png", pixels(9, *shape))
    with pytest.raises(DatasetCorrupt, match=r"odd\.png is an image \[.*one size"):
        folder(root)


@pytest.mark.parametrize("damage", [lambda raw: b"", lambda raw: b"text", lambda raw: raw[: len(raw) // 2]])
def test_a_corrupt_image_is_named(root, damage):
    path = root / "test/cat/1.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetCorrupt, match=r"test/cat/1\.png was read as an image"):
        folder(root)


def test_deep_pixels_are_refused_instead_of_clipped(root):
    Image.fromarray(np.full((5, 6), 40000, dtype=np.uint16)).save(root / "train/dog/deep.png")
    with pytest.raises(DatasetCorrupt, match=r"deep\.png.*more than 8 bits"):
        folder(root)


def test_classes_must_be_learnable(root):
    save(root / "test/eel/1.png", pixels(0, 5, 6, 3))
    with pytest.raises(DatasetCorrupt, match="eel, but its training part has only cat, dog"):
        folder(root)
    (root / "train/eel").mkdir()
    with pytest.raises(DatasetMissing, match=r"looks for images .*train/eel"):
        folder(root)


def test_missing_parts_are_named(root, tmp_path_factory):
    for path in (root / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetMissing, match=r"looks for images .*/test\. "):
        folder(root)
    with pytest.raises(DatasetMissing, match="train/<class>"):
        folder(tmp_path_factory.mktemp("empty"))


def test_cifar10_reads_class_folders_of_its_own_kind_only(tmp_path):
    for part in ("train", "test"):
        for label, name in enumerate("jihgfedcba"):
            save(tmp_path / part / name / "1.png", pixels(label, 32, 32, 3))
    data = cifar10(tmp_path)
    assert data.train.labels.tolist() == list(range(10)) and data.mean == (0.4914, 0.4822, 0.4465)
    assert torch.equal(data.train.images[0], torch.from_numpy(pixels(9, 32, 32, 3)).permute(2, 0, 1))
    save(tmp_path / "train/k/1.png", pixels(0, 32, 32, 3))
    with pytest.raises(DatasetCorrupt, match=r"11 classes of images \[3, 32, 32\].*'folder'"):
        cifar10(tmp_path)
