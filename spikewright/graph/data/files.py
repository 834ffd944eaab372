"""Locate and read the files of a graph."""

from collections.abc import Sequence
from pathlib import Path

from spikewright.data.files import missing
from spikewright.graph.data.triples import Triple, read_triples

PARTS = ("train", "valid", "test")


def find(dataset: str, folder: Path, names: Sequence[str]) -> Path:
    """Return the first of `names` that exists in `folder`, a file or a folder.

    Raises:
        DatasetMissing: None exists; the message lists them and the contents of the folder.
    """
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise missing(dataset, folder, " or ".join(names))


def read_parts(dataset: str, folder: Path, optional: Sequence[str] = ()) -> dict[str, list[Triple]]:
    """Read `train.txt`, `valid.txt` and `test.txt`, each plain or `.gz`.

    Args:
        dataset: Name of the data set, for messages.
        folder: An existing folder.
        optional: Parts whose file may be missing; they are returned empty. Default: ().

    Raises:
        DatasetMissing: A required file is not there.
        DatasetCorrupt: A file is damaged or empty, or has a line that is no triple.
    """
    parts = {}
    for part in PARTS:
        names = (f"{part}.txt", f"{part}.txt.gz")
        absent = part in optional and not any((folder / name).exists() for name in names)
        parts[part] = [] if absent else read_triples(find(dataset, folder, names))
    return parts
