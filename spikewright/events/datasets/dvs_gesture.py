"""DVS-Gesture: long recordings of persons, cut into gestures by a table of times."""

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from spikewright._util.reading import MOST_TEXT
from spikewright.data.files import data_folder, missing, read_bytes
from spikewright.errors import DatasetCorrupt
from spikewright.events.datasets.folders import check_part, inside
from spikewright.events.datasets.recordings import Recordings
from spikewright.events.readers.aedat3 import read_aedat3
from spikewright.events.recording import Events

CLASSES = (
    "hand_clapping",
    "right_hand_wave",
    "left_hand_wave",
    "right_arm_clockwise",
    "right_arm_counter_clockwise",
    "left_arm_clockwise",
    "left_arm_counter_clockwise",
    "arm_roll",
    "air_drums",
    "air_guitar",
    "other_gestures",
)
LAYOUT = (
    "trials_to_train.txt, trials_to_test.txt, and user*.aedat with user*_labels.csv, unpacked from DvsGesture.tar.gz "
    "(described at https://research.ibm.com/interactive/dvsgesture)"
)
_COLUMNS = ["class", "startTime_usec", "endTime_usec"]


@dataclass(eq=False)
class Last:
    """The recording that was read last, since several gestures lie in it."""

    path: Path | None = None
    events: Events | None = None

    def read(self, path: Path) -> Events:
        """Return the recording of a file, which is read unless it was the last one."""
        if self.events is None or self.path != path:
            self.path, self.events = path, read_aedat3(path)
        return self.events

    def __getstate__(self) -> dict[str, None]:
        return {"path": None, "events": None}  # a process of its own reads its own


@dataclass(frozen=True)
class Gesture:
    """A part of a long recording.

    Args:
        path: File of the recording.
        start: First microsecond.
        stop: Microsecond after the last one.
        last: Holds the recording that was read last.
    """

    path: Path
    start: int
    stop: int
    last: Last = field(repr=False)

    def events(self) -> Events:
        """Return its events, with times from its start."""
        whole = self.last.read(self.path)
        part = whole.at((whole.t >= self.start) & (whole.t < self.stop))
        return replace(part, t=part.t - self.start)

    def place(self) -> str:
        """Return its microseconds in the recording."""
        return f"{self.start} to {self.stop}"


def dvs_gesture(data_dir: Path | str | None, part: str = "train") -> Recordings:
    """List the gestures of DVS-Gesture: 128 x 128 pixels, 11 classes; 1,176 for training and 288 for testing.

    Each gesture is cut from the recording of its person and lighting by the start (included) and the end (excluded)
    that the table of labels says; its times begin at 0 at that start.  `left_out` counts what was left out of the whole
    recording.  The recording that was read last is kept, so going through the gestures in order reads each file once;
    in a random order each access reads a file of some 100 MB.

    Args:
        data_dir: Folder with `trials_to_train.txt`, `trials_to_test.txt` and the files that they name, each with its
            `_labels.csv`; or with a folder `DvsGesture` that has them.
        part: "train" or "test".  Default: "train".

    Raises:
        DatasetMissing: A list, a recording or a table of labels is not there.
        DatasetCorrupt: A line of a table is not a class from 1 to 11 with a start before its end.
        ConfigError: There is no such part.

    Reference:
        Amir et al., A Low Power, Fully Event-Based Gesture Recognition System, CVPR, 2017.
    """
    check_part("dvs_gesture", part, ("train", "test"))
    trials = f"trials_to_{part}.txt"
    root = inside(data_folder("dvs_gesture", data_dir, LAYOUT), ("DvsGesture",), trials)
    sources, labels, last = list[Gesture](), list[int](), Last()
    for line in _text(root, trials).splitlines():
        name = line.strip()
        if not name:
            continue
        path = root / name
        if path.parent != root or not path.is_file():
            raise missing("dvs_gesture", root, f"'{name}' (of {trials})")
        for label, start, stop in _labels(root, f"{path.stem}_labels.csv"):
            sources.append(Gesture(path, start, stop, last))
            labels.append(label)
    if not sources:
        raise DatasetCorrupt(
            f"{root / trials} was read as a list of recordings with gestures, but it names none. Fetch it again."
        )
    return Recordings("dvs_gesture", part, sources, np.array(labels), CLASSES, 128, 128)


def _text(root: Path, name: str) -> str:
    if not (root / name).exists():
        raise missing("dvs_gesture", root, f"{name}, beside {LAYOUT}")
    return read_bytes(root / name, MOST_TEXT).decode("latin-1")


def _labels(root: Path, name: str) -> list[tuple[int, int, int]]:
    """Return class (from 0), start and end of each line of a table."""
    lines = list(csv.reader(_text(root, name).splitlines()))
    if not lines or [each.strip() for each in lines[0]] != _COLUMNS:
        raise _wrong(root / name, 1, f"is {lines[0] if lines else 'missing'}, not {','.join(_COLUMNS)}")
    found = list[tuple[int, int, int]]()
    for number, line in enumerate(lines[1:], 2):
        fields = [each.strip() for each in line]
        if not fields:
            continue
        if len(fields) != 3 or not all(each.isascii() and each.isdigit() and len(each) < 19 for each in fields):
            raise _wrong(root / name, number, f"is {line}, not three whole numbers")
        kind, start, stop = map(int, fields)
        if not 1 <= kind <= len(CLASSES) or start >= stop:
            raise _wrong(
                root / name, number, f"is {line}, not a class from 1 to {len(CLASSES)} and a start before its end"
            )
        found.append((kind - 1, start, stop))
    return found


def _wrong(path: Path, line: int, found: str) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{path} was read as a table of gestures, but line {line} {found}. Gestures cut at wrong times are other "
        "gestures. Fetch the file again."
    )
