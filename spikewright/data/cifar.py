"""CIFAR-10 and CIFAR-100: 60,000 small colour images each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from spikewright.data.dataset import Dataset, Split
from spikewright.data.files import check_md5, data_folder, first_file, missing, read_bytes
from spikewright.data.folder import read_split
from spikewright.data.pickles import read_pickle
from spikewright.errors import DatasetCorrupt


@dataclass(frozen=True)
class _Release:
    """A published data set: its folder, its files with MD5 sums by part, and the key of its labels."""

    name: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    labels: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def layout(self) -> str:
        files = ", ".join([*self.train, *self.test])
        return f"{files} (itself or in {self.folder}/), or images as train/<class>/*.png and test/<class>/*.png"


_CIFAR10 = _Release(
    name="cifar10",
    folder="cifar-10-batches-py",
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    labels="labels",
    classes=10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)

_CIFAR100 = _Release(
    name="cifar100",
    folder="cifar-100-python",
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    labels="fine_labels",
    classes=100,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


def cifar10(
    data_dir: Path | str | None, verify: bool = True, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Load CIFAR-10: colour images (3, 32, 32) in 10 classes, 50,000 for training and 10,000 for testing.

    Args:
        data_dir: Folder with the published Python batches `data_batch_1` to `data_batch_5` and `test_batch`, or with a
            folder `cifar-10-batches-py` that holds them; otherwise with images `train/<class>/*.png` and
            `test/<class>/*.png`, classes numbered alphabetically, as in the published labels.
        verify: True compares the batches with the published MD5 sums; images in class folders are not compared.
            Default: True.
        progress: Function `(done, total)` called after each image of a class folder, for each part. Default: None, no
            calls.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged or not the published one, or images have another shape or number of classes.
        ImportError: Class folders are given and Pillow is not installed.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    return _load(_CIFAR10, data_dir, verify, progress)


def cifar100(
    data_dir: Path | str | None, verify: bool = True, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Load CIFAR-100 with fine labels: images (3, 32, 32) in 100 classes, 50,000 for training and 10,000 for testing.

    Args:
        data_dir: Folder with the published Python files `train` and `test`, or with a folder `cifar-100-python` that
            holds them; otherwise with images `train/<class>/*.png` and `test/<class>/*.png`, classes numbered
            alphabetically.
        verify: True compares the files with the published MD5 sums; images in class folders are not compared.
            Default: True.
        progress: Function `(done, total)` called after each image of a class folder, for each part. Default: None, no
            calls.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged or not the published one, or images have another shape or number of classes.
        ImportError: Class folders are given and Pillow is not installed.

    Reference:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """
    return _load(_CIFAR100, data_dir, verify, progress)


def _load(
    release: _Release, data_dir: Path | str | None, verify: bool, progress: Callable[[int, int], None] | None
) -> Dataset:
    folder = data_folder(release.name, data_dir, release.layout)
    nested = folder / release.folder
    batches = nested if nested.is_dir() else folder
    if any((batches / name).exists() for name in (*release.train, *release.test)):
        train, test = (_read_batches(release, batches, part, verify) for part in (release.train, release.test))
    elif (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = _read_images(release, folder, progress)
    else:
        raise missing(release.name, folder, release.layout)
    return Dataset(release.name, train, test, release.classes, release.mean, release.std, augment="crop-flip")


def _read_batches(release: _Release, folder: Path, md5: dict[str, str], verify: bool) -> Split:
    splits = []
    for name, expected in md5.items():
        path = first_file(release.name, folder, [name])
        content = read_bytes(path)
        if verify:
            check_md5(release.name, path, content, expected, "for batches of your own in the same format")
        splits.append(_batch(release, read_pickle(content, path), path))
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits]))


def _batch(release: _Release, entries: dict[str, object], path: Path) -> Split:
    images, labels = entries.get("data"), entries.get(release.labels)
    if not (
        isinstance(images, torch.Tensor)
        and isinstance(labels, list)
        and list(images.shape) == [len(labels), 3 * 32 * 32]
        and all(type(label) is int for label in labels)
    ):
        raise DatasetCorrupt(
            f"{path} was read as a batch of '{release.name}', with the array 'data' [n, 3072] and the list "
            f"'{release.labels}' of n whole numbers. It has the entries {sorted(entries)}, and these are missing or do "
            "not fit together. Fetch the published file again."
        )
    return Split(images.reshape(-1, 3, 32, 32), torch.tensor(labels, dtype=torch.int64))


def _read_images(release: _Release, folder: Path, progress: Callable[[int, int], None] | None) -> tuple[Split, Split]:
    train, test, classes = read_split(release.name, folder, progress)
    shape = list(train.images.shape[1:])
    if len(classes) != release.classes or shape != [3, 32, 32]:
        raise DatasetCorrupt(
            f"'{release.name}' was asked for from class folders in {folder.absolute()}, which have {len(classes)} "
            f"classes of images {shape} ([C, H, W]). It has {release.classes} classes of [3, 32, 32], and its "
            "statistics suit no other images. Load other images under the name 'folder'."
        )
    return train, test
