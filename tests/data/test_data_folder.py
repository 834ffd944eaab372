import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikewright.data.cifar import cifar10
from spikewright.data.class_folders import image_endings
from spikewright.data.folder import folder
from spikewright.errors import DatasetCorrupt, DatasetMissing


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Classes whose creation order is not the alphabetical one."""
    for seed, name in enumerate(["train/dog/1", "train/cat/2", "train/cat/1", "test/dog/1", "test/cat/1"]):
        save(tmp_path / f"{name}.png", pixels(seed, 5, 6, 3))
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


@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 5, 3), (6, 5)])
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


ENDINGS = ["bmp", "BMP", "gif", "jpg", "jpe", "jfif", "ppm", "pgm", "PNG", "tga", "tif", "tiff", "webp", "jp2", "avif"]


def test_images_of_every_ending_that_pillow_reads_are_read(tmp_path):
    endings = [e for e in ENDINGS if f".{e.lower()}" in image_endings()]
    for number, ending in enumerate(endings):
        Image.fromarray(pixels(number, 8, 8)).save(tmp_path / f"{number}.{ending}")
        for part in ("train", "test"):
            (tmp_path / part / "a").mkdir(parents=True, exist_ok=True)
            (tmp_path / part / "a" / f"{number:02}.{ending}").write_bytes(
                (tmp_path / f"{number}.{ending}").read_bytes()
            )
    with pytest.warns(UserWarning, match=r"grey, as three equal channels"):  # some endings know colours only
        data = folder(tmp_path)
    assert len(endings) > 10 and len(data.train) == len(endings) and data.shape == (3, 8, 8)
    for number, ending in enumerate(endings):
        if ending.lower() in ("bmp", "tga", "tif", "tiff", "png", "ppm", "pgm"):
            expected = torch.from_numpy(pixels(number, 8, 8)).expand(3, -1, -1)
            assert torch.equal(data.train.images[number], expected), ending


def test_containers_are_no_images():
    assert not {".h5", ".hdf", ".grib"} & image_endings()


@pytest.mark.parametrize(("first", "second"), [("train", "test"), ("test", "train")])
def test_one_image_in_colour_makes_all_of_three_channels(tmp_path, first, second):
    for name in ("1", "2"):
        save(tmp_path / first / "a" / f"{name}.png", pixels(0, 4, 4))
    save(tmp_path / second / "a" / "1.png", pixels(1, 4, 4, 3))
    with pytest.warns(
        UserWarning, match=r"^'folder' read 3 images\. 2 \(.*1\.png, \.\.\.\) grey, as three equal channels"
    ):
        data = folder(tmp_path)
    assert data.shape == (3, 4, 4) and data.test.images.shape[1] == 3
    assert torch.equal(getattr(data, first).images[1], torch.from_numpy(pixels(0, 4, 4)).expand(3, -1, -1))


def test_images_below_class_folders_are_of_the_class(root):
    save(root / "train/cat/more/deep/3.png", pixels(7, 5, 6, 3))
    save(root / "train/cat/a/3.png", pixels(8, 5, 6, 3))
    with pytest.warns(
        UserWarning, match=r"^'folder' read 7 images\. 2 \(.*cat/a/3.png, \.\.\.\) in folders inside class"
    ):
        data = folder(root)
    assert data.train.labels.tolist() == [0, 0, 0, 0, 1]
    for at, seed in enumerate((2, 1, 8, 7, 0)):  # as os.walk goes
        assert torch.equal(data.train.images[at], torch.from_numpy(pixels(seed, 5, 6, 3)).permute(2, 0, 1))


LEFT_OUT = {
    "train/cat/notes.txt": r"1 \(.*cat/notes\.txt\) without an ending of images",
    "train/cat/image": r"1 \(.*cat/image\) without an ending of images",
    "train/dog/.DS_Store": r"1 \(.*dog/\.DS_Store\) hidden, or of an operating system",
    "train/dog/._1.png": r"1 \(.*dog/\._1\.png\) hidden, or of an operating system",
    "train/dog/Thumbs.db": r"1 \(.*dog/Thumbs\.db\) hidden, or of an operating system",
    "train/.git/1.png": r"1 \(.*train/\.git\) hidden, or of an operating system",
    "test/.DS_Store": r"1 \(.*test/\.DS_Store\) hidden, or of an operating system",
    "test/cat/.ipynb_checkpoints/1.png": r"1 \(.*ipynb_checkpoints\) hidden, or of an operating system",
    "train/3.png": r"1 \(.*train/3\.png\) in no class folder",
    "val/cat/3.png": r"1 \(.*/val\) folders beside train and test",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_said(root, name):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes((root / "train/cat/1.png").read_bytes())
    with pytest.warns(UserWarning, match=rf"^'folder' read 5 images\. left out: {LEFT_OUT[name]}\.$"):
        assert len(folder(root).train) == 3


def test_a_link_in_a_circle_is_followed_no_further(root):
    (root / "train/cat/again").symlink_to(root / "train", target_is_directory=True)
    with pytest.warns(UserWarning, match=r"'folder' read 5 images\. left out: 1 \(.*again\) linked to a folder that"):
        folder(root)


def test_a_class_that_is_not_measured_is_said(root):
    (root / "test/cat/1.png").unlink()
    with pytest.warns(UserWarning, match=r"1 \(.*test/cat\) classes without a test image"):
        assert folder(root).test.labels.tolist() == [1]


def test_frames_that_are_not_read_are_said(root):
    frames = [Image.fromarray(pixels(seed, 5, 6, 3)) for seed in (4, 5)]
    frames[0].save(root / "train/cat/3.tif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"1 \(.*3\.tif\) with several frames, of which the first"):
        data = folder(root)
    assert torch.equal(data.train.images[2], torch.from_numpy(pixels(4, 5, 6, 3)).permute(2, 0, 1))


def test_what_pillow_warns_of_is_said_once(root):
    image = Image.fromarray(pixels(4, 5, 6, 3))
    image.save(root / "train/cat/3.tif")
    data = bytearray((root / "train/cat/3.tif").read_bytes())
    data[9] = 255  # the number of entries of its directory
    (root / "train/cat/3.tif").write_bytes(data)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = folder(root)
    assert len(told) == 1 and "Pillow warned" in str(told[0].message) and "Corrupt EXIF data" in str(told[0].message)
    assert torch.equal(found.train.images[2], torch.from_numpy(np.array(image)).permute(2, 0, 1))


def test_a_refusal_is_the_one_thing_that_is_told(root):
    Image.fromarray(pixels(4, 5, 6, 3)).save(root / "train/cat/3.tif")
    data = bytearray((root / "train/cat/3.tif").read_bytes())
    data[9] = 255
    (root / "train/cat/3.tif").write_bytes(data)
    (root / "train/cat/4.png").write_bytes(b"no image")
    with warnings.catch_warnings(record=True) as told, pytest.raises(DatasetCorrupt, match=r"4\.png"):
        folder(root)
    assert not told


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
    for part in ("train", "test"):
        save(tmp_path / part / "k" / "1.png", pixels(0, 32, 32, 3))
    with pytest.raises(DatasetCorrupt, match=r"11 classes of images \[3, 32, 32\].*'folder'"):
        cifar10(tmp_path)
