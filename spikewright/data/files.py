"""Locate and verify the files of a data set."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from spikewright.errors import DatasetCorrupt, DatasetMissing


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
    """Return the first of `names` that is a file in `folder`.

    Raises:
        DatasetMissing: None is a file; the message lists them and the contents of the folder.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise missing(dataset, folder, " or ".join(names))


def missing(dataset: str, folder: Path, wanted: str) -> DatasetMissing:
    """Return the error that `wanted` is not in `folder`, with the contents of the folder."""
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
