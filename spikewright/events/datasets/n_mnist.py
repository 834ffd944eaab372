"""N-MNIST: MNIST on a screen, seen by a camera that moves."""

from pathlib import Path

import numpy as np

from spikewright.data.files import data_folder
from spikewright.events.datasets.folders import check_part, files_in, inside
from spikewright.events.datasets.recordings import Recordings, WholeFile

LAYOUT = (
    "Train/0 to Train/9 and Test/0 to Test/9 with .bin files, unpacked from Train.zip and Test.zip (described at "
    "https://www.garrickorchard.com/datasets/n-mnist)"
)


def n_mnist(data_dir: Path | str | None, part: str = "train") -> Recordings:
    """List the recordings of N-MNIST: 34 x 34 pixels, 10 classes, 60,000 for training and 10,000 for testing.

    Args:
        data_dir: Folder with `Train/0/*.bin` to `Train/9/*.bin` and the same in `Test`, or with a folder `N-MNIST` or
            `NMNIST` that has them.
        part: "train" or "test".  Default: "train".

    Raises:
        DatasetMissing: A folder is not there, or has no `.bin` file.
        ConfigError: There is no such part.

    Reference:
        Orchard, Jayawant, Cohen and Thakor, Converting Static Image Datasets to Spiking Neuromorphic Datasets Using
        Saccades, Frontiers in Neuroscience, 2015.
    """
    check_part("n_mnist", part, ("train", "test"))
    root = inside(data_folder("n_mnist", data_dir, LAYOUT), ("N-MNIST", "NMNIST"), part.title())
    files = [files_in("n_mnist", root / part.title() / str(digit), (".bin",), LAYOUT) for digit in range(10)]
    labels = [digit for digit, each in enumerate(files) for _ in each]
    sources = [WholeFile(path) for each in files for path in each]
    return Recordings("n_mnist", part, sources, np.array(labels), tuple(map(str, range(10))), 34, 34)
