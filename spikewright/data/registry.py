"""Every data set by its name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """Return the names of all data sets, sorted.

    >>> names()
    ['cifar10', 'cifar100', 'digits', 'fashion_mnist', 'folder', 'mnist', 'synthetic']
    """
    return sorted(_LOADERS)


def loader(name: str) -> Callable[..., Dataset]:
    """Return the function that loads the data set `name`; its signature tells the options.

    Raises:
        ConfigError: There is no such data set.
    """
    if name not in _LOADERS:
        raise ConfigError(f"The data set '{name}' is unknown. {nearest(name, _LOADERS)}")
    return _LOADERS[name]


def load(name: str, data_dir: Path | str | None = None, **options: Any) -> Dataset:
    """Load the data set `name`.

    Args:
        name: One of `names()`.
        data_dir: Folder with its files; data sets without files leave it unused.
        **options: Further arguments of `loader(name)`.

    Raises:
        ConfigError: The data set or an option is unknown.
        DatasetMissing: Its files are not there, or it has files and `data_dir` is None.
        DatasetCorrupt: A file is damaged or is not the published one.

    >>> load("synthetic", classes=3, size=30).shape
    (1, 8, 8)
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
