"""SHD and SSC: spikes of an artificial cochlea in HDF5, one row for each recording."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikewright._util.ranges import check_count
from spikewright._util.reading import check_regular
from spikewright.data.files import unreadable
from spikewright.data.optional import optional_import
from spikewright.errors import DatasetCorrupt, InputError
from spikewright.events.recording import Events

MAGIC = b"\x89HDF\r\n\x1a\n"
CHANNELS = 700


@dataclass(frozen=True)
class Rows:
    """What stands beside the spikes in a file of SHD or SSC.

    Args:
        labels: Class of each recording, int64 `[n]`, from 0 to the number of classes - 1.
        classes: Names of the classes, empty if the file has none.
    """

    labels: np.ndarray[Any, Any]
    classes: tuple[str, ...]


def read_spikes(path: Path | str, row: int | None = None) -> Events:
    """Read one recording of an HDF5 file of the Spiking Heidelberg Digits or Speech Commands.

    `x` is the channel of the cochlea, from 0 to 699; `y` and `p` are 0, and `polarities` is 1.  The file holds times
    as float16 seconds, which are rounded here to whole microseconds.  Their grid is coarser by far: 0.49 ms between
    0.5 and 1 s, and 0.98 ms from 1 to 2 s.  A window shorter than that holds no further knowledge.

    Args:
        path: The file, with `spikes/times`, `spikes/units` and `labels`, unpacked.
        row: Number of the recording, at least 0.  Default: None, allowed for a file with one recording.

    Raises:
        DatasetCorrupt: The file is not such a file, is damaged, or the row has a channel or time out of range.
        InputError: No row was given and the file has several, or it has no such row.
        ImportError: h5py is not installed.

    Reference:
        Cramer, Stradmann, Schemmel and Zenke, The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking
        Neural Networks, IEEE Transactions on Neural Networks and Learning Systems, 2022.
    """
    if row is not None:
        check_count("read_spikes", "row", row, "row numbers a recording of the file", 0)
    with _opened(Path(path)) as file:
        count = len(file["labels"])
        if row is None and count != 1:
            raise InputError(f"read_spikes was asked for {path}, which holds {count} recordings, without saying which. "
                             f"One call reads one. Give row, from 0 to {count - 1}.")  # fmt: skip
        if row is not None and row >= count:
            raise InputError(
                f"read_spikes was asked for row {row} of {path}, which holds {count} recordings. Give a row from 0 to "
                f"{count - 1}."
            )
        for name in ("times", "units"):
            _check_length(Path(path), file["spikes"][name], row or 0)
        times, units = (np.asarray(file["spikes"][name][row or 0]) for name in ("times", "units"))
    if times.dtype.kind != "f" or units.dtype.kind not in "iu" or times.shape != units.shape or times.ndim != 1:
        raise _wrong(path, f"row {row or 0} has times of {times.dtype} {times.shape} and units of {units.dtype} "
                     f"{units.shape}, not as many numbers of each")  # fmt: skip
    seconds, channels = times.astype(np.float64), units.astype(np.int64)
    for name, values, bad in (
        ("time", seconds, ~(np.isfinite(seconds) & (seconds >= 0) & (seconds < 2**32))),
        ("channel", channels, (channels < 0) | (channels >= CHANNELS)),
    ):
        if bad.any():
            first = int(bad.argmax())
            raise _wrong(path, f"row {row or 0} has at spike {first} the {name} {values[first]}, out of its range")
    t, rest = np.rint(seconds * 1e6).astype(np.int64), np.zeros(len(seconds), np.int64)
    return Events(t, channels, rest, rest, 1, CHANNELS, polarities=1)


def _check_length(path: Path, rows: Any, row: int) -> None:
    """Raise `DatasetCorrupt` if a row says that it is longer than the file: HDF5 would make room for it first."""
    kind = optional_import("h5py", "Reading spikes of SHD and SSC", extra="events").check_vlen_dtype(rows.dtype)
    plain = rows.chunks is None or rows.id.get_create_plist().get_nfilters() == 0
    if kind is None or not plain:
        return
    entry = 8 + rows.file.id.get_create_plist().get_sizes()[0]  # number (4 bytes), address, index (4 bytes)
    if rows.chunks is None:
        offset, place = rows.id.get_offset(), row
    else:
        offset, place = rows.id.get_chunk_info_by_coord((row,)).byte_offset, row % rows.chunks[0]
    if offset is None:
        return
    with path.open("rb") as file:
        file.seek(offset + entry * place)
        count = int.from_bytes(file.read(4), "little")
    if count * kind.itemsize > path.stat().st_size:
        raise _wrong(
            path, f"at byte {offset + entry * place} row {row} says it has {count} numbers, more than the file"
        )


def read_rows(path: Path | str) -> Rows:
    """Read labels and class names of a file of SHD or SSC, as `read_spikes` reads its recordings.

    Args:
        path: The file.

    Raises:
        DatasetCorrupt: The file is not such a file, is damaged, or a label is not that of a class.
        ImportError: h5py is not installed.
    """
    with _opened(Path(path)) as file:
        labels, keys = np.asarray(file["labels"][:]), file.get("extra/keys")
        names = [] if keys is None else [key.decode() if isinstance(key, bytes) else str(key) for key in keys[:]]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or (len(labels) and labels.min() < 0):
        raise _wrong(path, f"labels are {labels.dtype} {labels.shape}, not one whole number of at least 0 for each row")
    if names and len(labels) and labels.max() >= len(names):
        raise _wrong(path, f"row {int(labels.argmax())} has the label {labels.max()}, but there are {len(names)} names")
    return Rows(labels.astype(np.int64), tuple(names))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the open file; what h5py raises on a damaged one comes out as `DatasetCorrupt`."""
    h5py = optional_import("h5py", "Reading spikes of SHD and SSC", extra="events")
    try:
        check_regular(path)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        with h5py.File(path, "r") as file:
            lengths = {name: len(file[name]) for name in ("spikes/times", "spikes/units", "labels")}
            if len(set(lengths.values())) != 1:
                raise _wrong(path, f"the numbers of rows are {lengths}, which differ")
            yield file
    except (DatasetCorrupt, InputError):
        raise
    except Exception as cause:  # h5py raises OSError, RuntimeError, KeyError, TypeError and others on damaged files
        raise _wrong(path, f"HDF5 finds {type(cause).__name__}: {cause}") from cause


def _wrong(path: Path | str, found: str) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{path} was read as spikes of SHD or SSC (HDF5 with spikes/times, spikes/units and labels), but {found}. "
        "Nothing of it is used. Unpack it if it is packed (gunzip), or fetch it again."
    )
