"""Finding the files of a data set, and telling whether they are the right ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from spikewright.errors import DatasetCorrupt, DatasetMissing


def data_folder(dataset: str, data_dir: Path | str | None, layout: str) -> Path:
    """Return `data_dir` as the path of an existing folder.

    Args:
        dataset: Name of the data set, for the message.
        data_dir: Folder given by the user; a leading `~` is expanded.
        layout: What is looked for inside, for the message.

    Raises:
        DatasetMissing: None was given, or it is no folder.
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
            f"'{dataset}' was asked for from data_dir={str(data_dir)!r}, but there is {found} at {folder.absolute()}. "
            f"Nothing is downloaded. Give a folder that holds {layout}."
        )
    return folder


def first_file(dataset: str, folder: Path, names: Sequence[str]) -> Path:
    """Return the first of `names` that is a file in `folder`.

    Raises:
        DatasetMissing: None of them is; the message lists them, and what the folder holds.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise missing(dataset, folder, " or ".join(names))


def missing(dataset: str, folder: Path, wanted: str) -> DatasetMissing:
    """Return the error that says that `wanted` is not in `folder`, and what is there instead."""
    entries = sorted(entry.name for entry in folder.iterdir())
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
        path: File that the content came from.
        content: Bytes to sum, after decompression.
        expected: The right sum, 32 hexadecimal digits.
        instead: Which files may rightly differ, for the advice in the message.

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
