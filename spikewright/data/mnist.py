"""MNIST: 70,000 handwritten digits."""

from collections.abc import Mapping
from pathlib import Path

from spikewright.data.dataset import Dataset, Split
from spikewright.data.files import MOST_BYTES, check_md5, data_folder, first_file
from spikewright.data.idx import parse_idx, read_content
from spikewright.errors import DatasetCorrupt

LAYOUT = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .gz)"

# Sums of the decompressed content, which do not depend on the compression.
_MD5 = {
    "train-images": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels": "a25bea736e30d166cdddb491f175f624",
    "t10k-images": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels": "27ae3e4e09519cfbb04c329615203637",
}


_SIZES = {
    "train-images": 16 + 60_000 * 28 * 28,
    "train-labels": 8 + 60_000,
    "t10k-images": 16 + 10_000 * 28 * 28,
    "t10k-labels": 8 + 10_000,
}
"""Bytes of the published files of MNIST and of its replacements, decompressed: headers and elements."""


def mnist(data_dir: Path | str | None, verify: bool = True) -> Dataset:
    """Load MNIST: grey images (1, 28, 28) of digits in 10 classes, 60,000 for training and 10,000 for testing.

    Args:
        data_dir: Folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each plain or `.gz`; names with a dot, such as `train-images.idx3-ubyte`, are
            accepted too.
        verify: True compares the decompressed contents with the published MD5 sums; False reads drop-in replacements.
            Default: True.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged, or not the published one.

    Reference:
        LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, Proceedings of the
        IEEE, 1998.
    """
    folder = data_folder("mnist", data_dir, LAYOUT)
    sums = _MD5 if verify else {}
    train, test = (read_part("mnist", folder, part, sums) for part in ("train", "t10k"))
    return Dataset("mnist", train, test, classes=10, mean=(0.1307,), std=(0.3081,))


def read_part(dataset: str, folder: Path, part: str, md5: Mapping[str, str]) -> Split:
    """Read images and labels of one part in the format of MNIST.

    Args:
        dataset: Name of the data set, for messages.
        folder: Folder of the files.
        part: "train" or "t10k".
        md5: MD5 sum of the decompressed contents by stem, such as "train-images"; a stem without one is not compared.

    Raises:
        DatasetMissing: A file is not there.
        DatasetCorrupt: A file is damaged or has another sum, or the numbers of images and labels differ.
    """
    arrays = []
    for stem, axes in ((f"{part}-images", 3), (f"{part}-labels", 1)):
        spellings = [f"{stem}{joint}idx{axes}-ubyte{end}" for joint in "-." for end in ("", ".gz")]
        path = first_file(dataset, folder, spellings)
        content = read_content(path, _SIZES[stem] if stem in md5 else MOST_BYTES)
        arrays.append(parse_idx(content, axes, path))
        if stem in md5:
            check_md5(dataset, path, content, md5[stem], "for drop-in replacements such as Fashion-MNIST")
    images, labels = arrays
    if len(images) != len(labels):
        raise DatasetCorrupt(
            f"'{dataset}' has {len(images)} images but {len(labels)} labels in its {part} files in "
            f"{folder.absolute()}. Each image needs its own label. Fetch both files from the same place."
        )
    return Split(images[:, None], labels.long())
