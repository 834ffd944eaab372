"""Locate and verify the files of a data set."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from spikewright._util.reading import read_regular
from spikewright.errors import DatasetCorrupt, DatasetMissing

MOST_BYTES = 2**30
"""Most bytes that are read of a data file, decompressed, unless less is known to suffice."""


def data_folder(dataset: str, data_dir: Path | str | None, layout: str) -> Path:
    """Return `data_dir` as the path of an existing folder.

    Args:
        dataset: Name of the data set, for the message.
        data_dir: Folder; a leading `~` is expanded.
        layout: Description of the expected files, for the message.

    Raises:
        DatasetMissing: No folder was given, or it does not exist.
    """
    if data_dir is None:
        raise DatasetMissing(
            f"'{dataset}' was asked for without a data_dir. Its files are not part of this library and are never "
            f"downloaded. Give data_dir, a folder that holds {layout}."
        )
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DatasetMissing(
            f"'{dataset}' was asked for from data_dir='{data_dir}', but there is {found} at {folder.absolute()}. "
            f"Nothing is downloaded. Give a folder that holds {layout}."
        )
    return folder


def first_file(dataset: str, folder: Path, names: Sequence[str]) -> Path:
    """Return the first of `names` that is in `folder`.

    Raises:
        DatasetMissing: None is there; the message lists them and the contents of the folder.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name  # reading it says if it is no regular file
    raise missing(dataset, folder, " or ".join(names))


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the contents of a data file.

    Args:
        path: The file, or a link to it.
        most: Largest number of bytes that it may hold.  Default: `MOST_BYTES`.

    Raises:
        DatasetCorrupt: It cannot be opened, is not a regular file, or is larger.
    """
    try:
        return read_regular(path, most)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DatasetCorrupt:
    """Return the error that a data file cannot be read."""
    return DatasetCorrupt(
        f"{path} was to be read as a data file, but {error.strerror or error}. Nothing of it was used. Put the "
        "published file there, as a regular file that you may read."
    )


def missing(dataset: str, folder: Path, wanted: str) -> DatasetMissing:
    """Return the error that `wanted` is not in `folder`, with the contents of the folder."""
    try:
        entries = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return DatasetMissing(
            f"'{dataset}' looks for {wanted} in {folder.absolute()}, which cannot be listed: {error.strerror}. Give a "
            "folder that you may read."
        )
    shown = ", ".join(entries[:8]) + (", ..." if len(entries) > 8 else "")
    return DatasetMissing(
        f"'{dataset}' looks for {wanted} in {folder.absolute()}. The folder holds {len(entries)} entries"
        f"{': ' + shown if entries else ''}. Without these files there is nothing to load, and nothing is downloaded. "
        "Put them there, or point data_dir to the folder that has them."
    )


def check_md5(dataset: str, path: Path, content: bytes, expected: str, instead: str) -> None:
    """Compare the MD5 sum of `content` with the published one.

    Args:
        dataset: Name of the data set, for the message.
        path: File of the content, for the message.
        content: Bytes, decompressed.
        expected: Published sum, 32 hexadecimal digits.
        instead: Files for which verification may be turned off, for the message.

    Raises:
        DatasetCorrupt: The sums differ.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise DatasetCorrupt(
            f"'{dataset}' was asked for with verify=True, but the content of {path} has MD5 {found}; the published "
            f"file has {expected}. Results on altered data cannot be compared with anything. Fetch the file again, or "
            f"use `--set data.verify=false` {instead}."
        )
