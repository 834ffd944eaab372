"""Fashion-MNIST: images of clothing in the format of MNIST."""

from pathlib import Path

from spikewright.data.dataset import Dataset
from spikewright.data.files import data_folder
from spikewright.data.mnist import LAYOUT, read_part


def fashion(data_dir: Path | str | None) -> Dataset:
    """Load Fashion-MNIST: grey images (1, 28, 28) of clothing in 10 classes, 60,000 for training, 10,000 for testing.

    The published files have the names of those of MNIST and are not compared with checksums, so a folder of MNIST is
    read without an error.

    Args:
        data_dir: Folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
            `t10k-labels-idx1-ubyte`, each plain or `.gz`.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged.

    Reference:
        Xiao, Rasul and Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
        2017, arXiv 1708.07747.
    """
    folder = data_folder("fashion_mnist", data_dir, LAYOUT)
    train, test = (read_part("fashion_mnist", folder, part, {}) for part in ("train", "t10k"))
    return Dataset("fashion_mnist", train, test, classes=10, mean=(0.2860,), std=(0.3530,))
