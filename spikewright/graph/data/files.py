"""Finding the files of a graph."""

from collections.abc import Sequence
from pathlib import Path

from spikewright.errors import DatasetMissing
from spikewright.graph.data.triples import Triple, read_triples

PARTS = ("train", "valid", "test")


def existing_folder(dataset: str, folder: Path | str | None, layout: str) -> Path:
    """Return `folder` as the path of a folder that is there.

    Args:
        dataset: Name of the data set, for the message.
        folder: Folder given by the user; a leading `~` is expanded.
        layout: What is looked for inside, for the message.

    Raises:
        DatasetMissing: None was given, or it is no folder.
    """
    if folder is None:
        raise DatasetMissing(
            f"'{dataset}' was asked for without a folder. Its files are not part of this library and are never "
            f"downloaded. Give folder=..., a folder that holds {layout}."
        )
    path = Path(folder).expanduser()
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise DatasetMissing(
            f"'{dataset}' was asked for from folder={str(folder)!r}, but there is {found} at {path.absolute()}. "
            f"Nothing is downloaded. Give a folder that holds {layout}."
        )
    return path


def find(dataset: str, folder: Path, names: Sequence[str]) -> Path:
    """Return the first of `names` that is there in `folder`.

    Raises:
        DatasetMissing: None of them is; the message lists them, and what the folder holds.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    entries = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(entries[:8]) + (", ..." if len(entries) > 8 else "")
    raise DatasetMissing(
        f"'{dataset}' looks for {' or '.join(names)} in {folder.absolute()}. The folder holds {len(entries)} entries"
        f"{': ' + shown if entries else ''}. Without it there is nothing to load, and nothing is downloaded. "
        "Put it there, or give the folder that has it."
    )


def read_parts(dataset: str, folder: Path, optional: Sequence[str] = ()) -> dict[str, list[Triple]]:
    """Read `train.txt`, `valid.txt` and `test.txt`, each plain or `.gz`, from `folder`.

    Args:
        dataset: Name of the data set, for messages.
        folder: A folder that is there.
        optional: Parts that may be left out; they come back empty.

    Raises:
        DatasetMissing: A file is not there.
        DatasetCorrupt: A file is damaged or empty, or has a line that is no triple.
    """
    parts = {}
    for part in PARTS:
        names = (f"{part}.txt", f"{part}.txt.gz")
        absent = part in optional and not any((folder / name).exists() for name in names)
        parts[part] = [] if absent else read_triples(find(dataset, folder, names))
    return parts
