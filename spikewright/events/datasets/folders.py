"""Class folders on the disk: which files are there, and a warning about those that are left out."""

import warnings
from pathlib import Path

from spikewright.data.files import missing
from spikewright.errors import ConfigError, nearest


def check_part(dataset: str, part: str, known: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless a part of a data set is one of those that it has."""
    if part not in known:
        raise ConfigError(
            f"'{dataset}' was asked for with part={part!r}, which it does not have. {nearest(part, known)}"
        )


def inside(root: Path, names: tuple[str, ...], wanted: str) -> Path:
    """Return the folder that has `wanted` in it: `root`, or one of the folders `names` in it.

    Args:
        root: Folder that the user gave.
        names: Names of the folder that the archive unpacks to.
        wanted: Name of a file or folder that has to be there.
    """
    for folder in (root, *(root / name for name in names)):
        if (folder / wanted).exists():
            return folder
    return root


def class_folders(dataset: str, root: Path, wanted: str) -> list[Path]:
    """Return the folders in `root`, sorted by name.

    Args:
        dataset: Name of the data set, for messages.
        root: Folder of the class folders.
        wanted: What has to be there, for messages.

    Raises:
        DatasetMissing: There is none.
    """
    if not root.is_dir():
        raise missing(dataset, root.parent, f"the folder {root.name} with {wanted}")
    found = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not found:
        raise missing(dataset, root, wanted)
    return found


def files_in(dataset: str, folder: Path, suffixes: tuple[str, ...], wanted: str) -> list[Path]:
    """Return the files of a class folder, sorted by name; a `UserWarning` names those of other endings.

    Args:
        dataset: Name of the data set, for messages.
        folder: The class folder.
        suffixes: Endings, in small letters; empty for any.
        wanted: What has to be there, for messages.

    Raises:
        DatasetMissing: The folder is not there, or has no such file.
    """
    if not folder.is_dir():
        raise missing(dataset, folder.parent, f"the folder {folder.name} with {wanted}")
    entries = sorted(folder.iterdir())
    found = [
        each
        for each in entries
        if each.is_file() and not each.name.startswith(".") and (not suffixes or each.suffix.lower() in suffixes)
    ]
    rest = [each.name for each in entries if each not in found]
    if not found:
        raise missing(dataset, folder, wanted)
    if rest:
        warnings.warn(
            f"'{dataset}' leaves out {len(rest)} entries of {folder}, such as {rest[0]}: it reads {wanted}.",
            stacklevel=4,
        )
    return found
