"""Checks of what `to_nir` and `from_nir` are given: inputs, and paths of files."""

import os
from pathlib import Path

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor, shown
from spikewright._util.files import write_atomically
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, InputError, ShapeError

_REAL = (torch.float16, torch.float32, torch.float64)
"""Types of numbers that a file can hold."""


def check_input(x: object) -> None:
    """Raise an error unless a network can be traced on an input and compared on it.

    Args:
        x: Input, `[time, batch, *feature]`.

    Raises:
        ShapeError: It has no sample with an axis, or no real numbers.
        InputError: It holds a NaN or an infinity.
    """
    check_tensor("x", x, "[time, batch, *feature]")
    assert isinstance(x, Tensor)
    if x.dim() < 3 or not x.numel():
        raise ShapeError(
            f"to_nir was given x of shape {list(x.shape)}, but the network is run on it, and samples of a graph have "
            "at least one axis. Give [time, batch, *feature], each at least 1."
        )
    if x.dtype not in _REAL:
        raise ShapeError(
            f"to_nir was given x of {x.dtype}, whose precision the numbers of the file would have, and a file of NIR "
            "has float16, float32 or float64. Give x.float()."
        )
    bad = (~x.detach().isfinite()).nonzero()
    if len(bad):
        place = bad[0].tolist()
        raise InputError(
            f"to_nir was given x with {len(bad)} of {x.numel()} values that are not finite, the first at {place} "
            f"([time, batch, *feature]), {x[tuple(place)].item()}: neurons that it reaches never fire again, and "
            "nothing can be compared. Give finite numbers, such as x.nan_to_num(), or torch.randn_like(x)."
        )


def checked_target(path: object) -> Path:
    """Return a path, or raise `ConfigError` unless a file can be written there."""
    found, why = _path("to_nir", path), ""
    folder = found.parent
    if found.is_dir():
        why = "is a folder"
    elif not folder.is_dir():
        why = f"is in the folder '{folder}', which is not there"
    elif not os.access(found if found.exists() else folder, os.W_OK):
        why = "cannot be written to by this user"
    if why:
        raise ConfigError(
            f"to_nir(path={shown(str(path))}): the path is that of the file to write, but it {why}. Make the folder "
            "first, Path(path).parent.mkdir(parents=True), or give the path of a file elsewhere."
        )
    return found


def checked_source(path: object) -> Path:
    """Return a path, or raise `ConfigError` unless a file is there."""
    found = _path("from_nir", path)
    if not found.is_file():
        why = "that is a folder" if found.is_dir() else "there is no such file"
        raise ConfigError(
            f"from_nir(source={shown(str(path))}) is the path of a file to read, but {why}; paths are looked up from "
            f"'{Path.cwd()}'. Give the path of a file that to_nir or nir.write made."
        )
    return found


def _path(owner: str, path: object) -> Path:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise ConfigError(
            f"{owner}(path={shown(path)}) was given {kind_of(path)}, and no file can be found by that. Give a path "
            "such as 'net.nir' or pathlib.Path('net.nir')."
        )
    return Path(os.fspath(path))


def put(file: Path, target: Path) -> None:
    """Put a finished file in its place, at once.

    Raises:
        ConfigError: It cannot be written there.
    """
    try:
        write_atomically(target, file.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"to_nir(path='{target}') made the file, which agrees with the network, but could not put it there "
            f"({error}), and what was there before is as it was. Make room, or give another path."
        ) from error
