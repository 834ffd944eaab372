"""Any images sorted into class folders."""

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from spikewright._util.reading import check_regular
from spikewright.data.class_folders import FORMATS, LAYOUT, Noticed, list_images
from spikewright.data.dataset import Dataset, Split
from spikewright.data.files import data_folder, missing
from spikewright.data.moments import channel_statistics
from spikewright.data.optional import optional_import
from spikewright.errors import DatasetCorrupt

Progress = Callable[[int, int], None]

_MOST_PIXELS = 2**26
"""Most pixels of an image; they are told before any is decoded."""


def folder(data_dir: Path | str | None, progress: Progress | None = None) -> Dataset:
    """Load images that are sorted into class folders.

    Classes are the folders in `train`, numbered alphabetically; an image anywhere below a class folder is of that
    class, as in torchvision's `ImageFolder`. Images have an ending that Pillow reads and one common size; their shape
    is (1, H, W) if all are grey, and (3, H, W) otherwise. `mean` and `std` are those of the training part. A
    `UserWarning` names what is left out: other files, hidden ones, and folders beside `train` and `test`.

    Args:
        data_dir: Folder with `train/<class>/*.png` and `test/<class>/*.png`.
        progress: Function `(done, total)` called after each image, for each part. Default: None, no calls.

    Raises:
        DatasetMissing: A folder is not there, a class has no training image, or `test` has no image.
        DatasetCorrupt: An image cannot be decoded or has another size, or `test` has a class that `train` lacks.
        ImportError: Pillow is not installed.
    """
    train, test, classes = read_split("folder", data_folder("folder", data_dir, LAYOUT), progress)
    mean, std = channel_statistics(train.images)
    return Dataset("folder", train, test, classes=len(classes), mean=mean, std=std)


def read_split(dataset: str, root: Path, progress: Progress | None = None) -> tuple[Split, Split, list[str]]:
    """Read the images in `root/train/<class>` and `root/test/<class>`.

    A `UserWarning` says what is left out, and what is read in a way that may surprise, with numbers and examples.

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
    noticed = Noticed()
    train, test = list_images(dataset, root, noticed)
    strange = sorted(test.keys() - train.keys())
    if strange:
        raise DatasetCorrupt(
            f"'{dataset}' has the class folder {root / 'test' / strange[0]}, but its training part has only "
            f"{', '.join(train)}. A class that is never learned cannot be measured. Add it to train, or remove it."
        )
    bare = [root / "train" / name for name, files in train.items() if not files]
    if bare or not any(test.values()):
        raise missing(dataset, (bare or [root / "test"])[0], "images (.png, .jpg, .bmp, .tif, .webp, ...)")
    classes = list(train)
    unmeasured = [root / "test" / name for name in classes if not test.get(name)]
    if unmeasured:
        noticed.read_so["classes without a test image, of which nothing is measured"] = unmeasured
    paths = [[path for files in part.values() for path in files] for part in (train, test)]
    with warnings.catch_warnings(record=True) as told:  # by threads, so that none of them can do this for its image
        warnings.simplefilter("always")
        images, grey = zip(*(_decode_all(part, noticed, progress) for part in paths))
    noticed.warned.extend(str(warning.message) for warning in told)
    channels = max(part.shape[1] for part in images)
    if channels > 1 and any(grey):
        noticed.read_so["grey, as three equal channels, because others are in colour"] = [*grey[0], *grey[1]]
    message = noticed.message(dataset, sum(map(len, images)))
    if message is not None:
        warnings.warn(message, stacklevel=3)
    splits = [
        Split(pixels.expand(-1, channels, -1, -1), _labels(part, classes))
        for pixels, part in zip(images, (train, test))
    ]
    return splits[0], splits[1], classes


def _labels(part: dict[str, list[Path]], classes: Sequence[str]) -> Tensor:
    return torch.tensor([classes.index(name) for name, files in part.items() for _ in files], dtype=torch.int64)


def _decode_all(paths: Sequence[Path], noticed: Noticed, progress: Progress | None) -> tuple[Tensor, list[Path]]:
    """Decode images of one size in threads, in order, in colour if any is; return them, and which are grey."""
    decode = partial(_decode, optional_import("PIL.Image", "Reading images from class folders"))
    first, _ = decode(paths[0])
    images = torch.empty(len(paths), *first.shape, dtype=torch.uint8)
    grey = list[Path]()
    pool = ThreadPoolExecutor()
    try:
        for index, (image, frames) in enumerate(pool.map(decode, paths)):
            if image.shape[1:] != first.shape[1:]:
                raise _odd_one(paths[index], image, paths[0], first)
            if len(image) > images.shape[1]:  # the first in colour
                images = images.repeat(1, len(image), 1, 1)
            images[index] = image
            if len(image) == 1:
                grey.append(paths[index])
            if frames > 1:
                noticed.read_so.setdefault("with several frames, of which the first", []).append(paths[index])
            if progress is not None:
                progress(index + 1, len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return images, grey


def _decode(pillow: ModuleType, path: Path) -> tuple[Tensor, int]:
    """Return an image as uint8 `[C, H, W]`, with C = 1 or 3, and the number of frames in its file."""
    try:
        check_regular(path)
        with pillow.open(path, formats=FORMATS) as image:
            if math.prod(image.size) > _MOST_PIXELS:
                raise ValueError(f"it has {image.size[0]} x {image.size[1]} pixels, more than {_MOST_PIXELS}")
            if image.mode[0] in "IF":
                raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
            frames = getattr(image, "n_frames", 1)
            pixels = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except Exception as cause:  # Pillow can raise any exception on a damaged file
        raise DatasetCorrupt(
            f"{path} was read as an image with 8 bits a channel, but it cannot be decoded: {cause}. Every sample must "
            "be readable. Fetch or convert the file again, or remove it."
        ) from cause
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1), frames


def _odd_one(path: Path, image: Tensor, first_path: Path, first: Tensor) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{path} is an image {list(image.shape)} ([C, H, W]), but {first_path} is {list(first.shape)}. A batch is one "
        "tensor, so all images must have one size. Resize the odd one."
    )
