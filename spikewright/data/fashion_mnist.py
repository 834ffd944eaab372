"""Fashion-MNIST: articles of clothing in the format of MNIST."""

from pathlib import Path

from spikewright.data.dataset import Dataset
from spikewright.data.files import data_folder
from spikewright.data.mnist import LAYOUT, read_part


def fashion(data_dir: Path | str | None) -> Dataset:
    """Load Fashion-MNIST (Xiao, Rasul & Vollgraf, arXiv 1708.07747, 2017).

    10 classes, images (1, 28, 28), 60,000 for training and 10,000 for testing.  The published files carry the names
    of MNIST's, and their content is not compared with anything: a folder of MNIST is read without complaint.

    Args:
        data_dir: Folder with the four files, named as for `spikewright.data.mnist.mnist`.

    Raises:
        DatasetMissing: The folder or a file is not there.
        DatasetCorrupt: A file is damaged.
    """
    folder = data_folder("fashion_mnist", data_dir, LAYOUT)
    train, test = (read_part("fashion_mnist", folder, part, {}) for part in ("train", "t10k"))
    return Dataset("fashion_mnist", train, test, classes=10, mean=(0.2860,), std=(0.3530,))
