"""Recordings with labels, read one by one when they are asked for."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spikewright._util.ranges import check_count
from spikewright.data.files import unreadable
from spikewright.errors import DatasetCorrupt, InputError
from spikewright.events.readers.choose import read
from spikewright.events.recording import Events


class Source(Protocol):
    """Where one recording is."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def events(self) -> Events:
        """Read the recording."""
        ...

    def place(self) -> str:
        """Return what of the file it is, such as a row; empty for all of it."""
        ...


@dataclass(frozen=True)
class WholeFile:
    """A recording that is a file.

    Args:
        path: The file.
    """

    path: Path

    def events(self) -> Events:
        """Read it, by what the file begins with."""
        return read(self.path)

    def place(self) -> str:
        """Return an empty text."""
        return ""


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings of one sensor with their classes. `len(recordings)` is their number.

    `recordings[i]` reads recording i and returns it with its label, a pair of `Events` and int.  Nothing is kept, so
    each access reads the file again, and what the file holds is found out only then.

    Args:
        name: Name of the data set.
        part: Part of the data set, such as "train".
        sources: Where the recordings are; `[n]`, at least one.
        labels: Class of each recording.  int64 `[n]`, from 0 to the number of classes - 1.
        classes: Names of the classes, at least one.
        height: Rows of the sensor, at least 1.
        width: Columns of the sensor, at least 1.
        polarities: From 1 to 2: 1 of a sensor whose events all have polarity 0.  Default: 2.

    Raises:
        InputError: There is no recording, or not one label for each, or one that is not the number of a class.
    """

    name: str
    part: str
    sources: Sequence[Source] = field(repr=False)
    labels: np.ndarray[Any, Any] = field(repr=False)
    classes: tuple[str, ...]
    height: int
    width: int
    polarities: int = 2

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        right = labels.shape == (len(self.sources),) and len(labels) > 0 and labels.dtype.kind in "iu"
        if not right or labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(
                f"Recordings of '{self.name}' got {len(self.sources)} sources, labels of {labels.dtype} "
                f"{list(labels.shape)} and {len(self.classes)} classes. Each recording has one label, the number of a "
                "class from 0. Give as many of each, at least one."
            )
        object.__setattr__(self, "labels", labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[Events, int]]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> tuple[Events, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")  # what ends a loop over them
        source = self.sources[index]
        events = source.events()
        size, own = (events.height, events.width, events.polarities), (self.height, self.width, self.polarities)
        if size != own:
            raise DatasetCorrupt(
                f"{source.path} was read as a recording of '{self.name}', but its sensor is {size} (height, width, "
                f"polarities); that of the others is {own}. A network has inputs of one size. Take it out."
            )
        return events, int(self.labels[index])

    def at(self, which: Sequence[int] | np.ndarray[Any, Any]) -> "Recordings":
        """Return some of the recordings, in the order asked for; the classes stay.

        Args:
            which: Numbers of recordings, each from 0 to `len(self) - 1`; at least one.
        """
        places = [int(each) for each in which]
        for place in places:
            check_count("Recordings.at", "which", place, "each entry numbers a recording", 0, len(self) - 1)
        return replace(self, sources=[self.sources[place] for place in places], labels=self.labels[places])

    def digest(self) -> str:
        """Return 64 hexadecimal digits that depend on all bytes of the files, on what of them is read, and on labels.

        All files are read, each once: a cache that is named by it is never one of other data.  Where the files lie does
        not matter.
        """
        found, files = hashlib.sha256(), dict[Path, bytes]()
        found.update(repr((self.name, self.classes, self.height, self.width, self.polarities)).encode())
        for source, label in zip(self.sources, self.labels):
            if source.path not in files:
                files[source.path] = _sum(source.path)
            found.update(files[source.path])
            found.update(repr((source.place(), int(label))).encode())
        return found.hexdigest()


def _sum(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise unreadable(path, error) from error
