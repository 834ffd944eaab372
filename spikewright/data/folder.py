"""Any images sorted into class folders."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from spikewright._util.reading import check_regular
from spikewright.data.dataset import Dataset, Split
from spikewright.data.files import data_folder, missing
from spikewright.data.moments import channel_statistics
from spikewright.data.optional import optional_import
from spikewright.errors import DatasetCorrupt

Progress = Callable[[int, int], None]

_LAYOUT = "images as train/<class>/*.png and test/<class>/*.png"
_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp"}
_FORMATS = ("PNG", "JPEG", "BMP")
"""What a file may be, whatever its name says; other formats may run other programs."""
_MOST_PIXELS = 2**26
"""Most pixels of an image; they are told before any is decoded."""


def folder(data_dir: Path | str | None, progress: Progress | None = None) -> Dataset:
    """Load images that are sorted into class folders.

    Classes are the folders in `train`, numbered alphabetically. Images are PNG, JPEG or BMP of one common size, of
    shape (1, H, W) if all are grey and (3, H, W) if all are in colour. `mean` and `std` are those of the training part.

    Args:
        data_dir: Folder with `train/<class>/*.png` and `test/<class>/*.png`.
        progress: Function `(done, total)` called after each image, for each part. Default: None, no calls.

    Raises:
        DatasetMissing: A folder is not there, a class has no training image, or `test` has no image.
        DatasetCorrupt: An image cannot be decoded or has another size, or `test` has a class that `train` lacks.
        ImportError: Pillow is not installed.
    """
    train, test, classes = read_split("folder", data_folder("folder", data_dir, _LAYOUT), progress)
    mean, std = channel_statistics(train.images)
    return Dataset("folder", train, test, classes=len(classes), mean=mean, std=std)


def read_split(dataset: str, root: Path, progress: Progress | None = None) -> tuple[Split, Split, list[str]]:
    """Read the images in `root/train/<class>` and `root/test/<class>`.

    Args:
        dataset: Name of the data set, for messages.
        root: Folder with `train` and `test`.
        progress: Function `(done, total)` called after each image, for each part. Default: None, no calls.

    Returns:
        The training part, the test part, and the sorted class names.

    Raises:
        DatasetMissing: A folder is not there, a class has no training image, or `test` has no image.
        DatasetCorrupt: An image cannot be decoded or has another size, or `test` has a class that `train` lacks.
        ImportError: Pillow is not installed.
    """
    train, test = _listing(dataset, root, "train"), _listing(dataset, root, "test")
    strange = sorted(test.keys() - train.keys())
    if strange:
        raise DatasetCorrupt(
            f"'{dataset}' has the class folder {root / 'test' / strange[0]}, but its training part has only "
            f"{', '.join(train)}. A class that is never learned cannot be measured. Add it to train, or remove it."
        )
    bare = [root / "train" / name for name, files in train.items() if not files]
    if bare or not any(test.values()):
        raise missing(dataset, (bare or [root / "test"])[0], f"images ({', '.join(sorted(_ENDINGS))})")
    classes = list(train)
    return _read(train, classes, progress), _read(test, classes, progress), classes


def _listing(dataset: str, root: Path, part: str) -> dict[str, list[Path]]:
    """Return the image files of each class folder; classes and files are sorted."""
    if not (root / part).is_dir():
        raise missing(dataset, root, _LAYOUT)
    folders = sorted(entry for entry in (root / part).iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise missing(dataset, root / part, "a folder for each class")
    return {
        entry.name: sorted(path for path in entry.iterdir() if path.suffix.lower() in _ENDINGS) for entry in folders
    }


def _read(listing: dict[str, list[Path]], classes: Sequence[str], progress: Progress | None) -> Split:
    paths = [path for files in listing.values() for path in files]
    labels = [classes.index(name) for name, files in listing.items() for _ in files]
    return Split(_decode_all(paths, progress), torch.tensor(labels, dtype=torch.int64))


def _decode_all(paths: Sequence[Path], progress: Progress | None) -> Tensor:
    """Decode images in threads, in order; all must have the shape of the first."""
    decode = partial(_decode, optional_import("PIL.Image", "Reading images from class folders"))
    first = decode(paths[0])
    images = torch.empty(len(paths), *first.shape, dtype=torch.uint8)
    pool = ThreadPoolExecutor()
    try:
        for index, image in enumerate(pool.map(decode, paths)):
            if image.shape != first.shape:
                raise _odd_one(paths[index], image, paths[0], first)
            images[index] = image
            if progress is not None:
                progress(index + 1, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def _decode(pillow: ModuleType, path: Path) -> Tensor:
    """Return an image as uint8 `[C, H, W]`, with C = 1 or 3."""
    try:
        check_regular(path)
        with pillow.open(path, formats=_FORMATS) as image:
            if math.prod(image.size) > _MOST_PIXELS:
                raise ValueError(f"it has {image.size[0]} x {image.size[1]} pixels, more than {_MOST_PIXELS}")
            if image.mode[0] in "IF":
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
            pixels = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except Exception as cause:  # Pillow can raise any exception on a damaged file
        raise DatasetCorrupt(
            f"{path} was read as an image with 8 bits a channel, but it cannot be decoded: {cause}. Every sample must "
            "be readable. Fetch or convert the file again, or remove it."
        ) from cause
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)


def _odd_one(path: Path, image: Tensor, first_path: Path, first: Tensor) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{path} is an image {list(image.shape)} ([C, H, W]), but {first_path} is {list(first.shape)}. A batch is one "
        "tensor, so all images must have one size and the same number of channels. Resize or convert the odd one."
    )
