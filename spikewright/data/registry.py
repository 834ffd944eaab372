"""Data sets by name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewright._util.ranges import check_known
from spikewright.data.cifar import cifar10, cifar100
from spikewright.data.dataset import Dataset
from spikewright.data.digits import digits
from spikewright.data.fashion_mnist import fashion
from spikewright.data.folder import folder
from spikewright.data.mnist import mnist
from spikewright.data.synthetic import synthetic
from spikewright.errors import ConfigError, nearest

_LOADERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "fashion_mnist": fashion,
    "folder": folder,
    "mnist": mnist,
    "synthetic": synthetic,
}


def names() -> list[str]:
    """Return the sorted names of all data sets.

    >>> from spikewright.data import names
    >>> names()
    ['cifar10', 'cifar100', 'digits', 'fashion_mnist', 'folder', 'mnist', 'synthetic']
    """
    return sorted(_LOADERS)


def loader(name: str) -> Callable[..., Dataset]:
    """Return the function that loads a data set; its signature shows the options.

    Args:
        name: One of `names()`.

    Raises:
        ConfigError: The data set is unknown.
    """
    check_known("The data set", name, _LOADERS)
    return _LOADERS[name]


def load(name: str, data_dir: Path | str | None = None, **options: Any) -> Dataset:
    """Load a data set by name. Nothing is downloaded.

    | name | images | training, test | files |
    |---|---|---|---|
    | mnist, fashion_mnist | (1, 28, 28), 10 classes | 60,000, 10,000 | four IDX files |
    | cifar10, cifar100 | (3, 32, 32), 10 or 100 classes | 50,000, 10,000 | Python batches or class folders |
    | digits | (1, 8, 8), 10 classes | 1,438, 359 by default | none, comes with scikit-learn |
    | synthetic | (1, 8, 8), 4 classes by default | 200, 200 by default | none, generated |
    | folder | of one size, grey or colour | any | class folders |

    Args:
        name: "cifar10", "cifar100", "digits", "fashion_mnist", "folder", "mnist" or "synthetic".
        data_dir: Folder with the files. Default: None, allowed for data sets without files.
        **options: Further arguments of the loader, `loader(name)`.

    Raises:
        ConfigError: The data set or an option is unknown.
        DatasetMissing: The files are not there, or `data_dir` is `None` for a data set with files.
        DatasetCorrupt: A file is damaged or not the published one.

    >>> from spikewright.data import load
    >>> data = load("synthetic", classes=3, size=30)
    >>> data.shape, data.classes, len(data.train), data.train.images.dtype
    ((1, 8, 8), 3, 30, torch.uint8)
    """
    function = loader(name)
    known = set(inspect.signature(function).parameters)
    unknown = sorted(options.keys() - known)
    if unknown:
        choices = known - {"data_dir"}
        raise ConfigError(f"The data set '{name}' has no option '{unknown[0]}'. {nearest(unknown[0], choices)}")
    if "data_dir" in known:
        options["data_dir"] = data_dir
    return function(**options)
