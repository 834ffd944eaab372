"""SHD and SSC: spoken digits and commands as spikes of an artificial cochlea."""

from dataclasses import dataclass
from pathlib import Path

from spikewright.data.files import data_folder, missing
from spikewright.errors import DatasetCorrupt, DatasetMissing
from spikewright.events.datasets.folders import check_part
from spikewright.events.datasets.recordings import Recordings
from spikewright.events.readers.spikes import CHANNELS, read_rows, read_spikes
from spikewright.events.recording import Events

_SOURCE = "unpacked from .h5.gz (described at https://zenkelab.org/resources/spiking-heidelberg-datasets-shd)"


@dataclass(frozen=True)
class Row:
    """A recording that is a row of an HDF5 file.

    Args:
        path: The file.
        row: Number of the row, from 0.
    """

    path: Path
    row: int

    def events(self) -> Events:
        """Read the row."""
        return read_spikes(self.path, self.row)

    def place(self) -> str:
        """Return the number of the row."""
        return f"row {self.row}"


def shd(data_dir: Path | str | None, part: str = "train") -> Recordings:
    """List the recordings of the Spiking Heidelberg Digits: 700 channels, 20 classes; 8,156 and 2,264 for testing.

    Args:
        data_dir: Folder with `shd_train.h5` and `shd_test.h5`, unpacked.
        part: "train" or "test".  Default: "train".

    Raises:
        DatasetMissing: A file is not there, or is packed.
        DatasetCorrupt: A file is damaged, or has a label that is not from 0 to 19.
        ConfigError: There is no such part.
        ImportError: h5py is not installed.

    Reference:
        Cramer, Stradmann, Schemmel and Zenke, The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking
        Neural Networks, IEEE Transactions on Neural Networks and Learning Systems, 2022.
    """
    check_part("shd", part, ("train", "test"))
    return _listed("shd", data_dir, part, 20, "shd_train.h5 and shd_test.h5")


def ssc(data_dir: Path | str | None, part: str = "train") -> Recordings:
    """List the recordings of the Spiking Speech Commands: 700 channels, 35 classes.

    Args:
        data_dir: Folder with `ssc_train.h5`, `ssc_valid.h5` and `ssc_test.h5`, unpacked.
        part: "train", "valid" or "test".  Default: "train".

    Raises:
        DatasetMissing: A file is not there, or is packed.
        DatasetCorrupt: A file is damaged, or has a label that is not from 0 to 34.
        ConfigError: There is no such part.
        ImportError: h5py is not installed.

    Reference:
        Cramer, Stradmann, Schemmel and Zenke, The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking
        Neural Networks, IEEE Transactions on Neural Networks and Learning Systems, 2022.
    """
    check_part("ssc", part, ("train", "valid", "test"))
    return _listed("ssc", data_dir, part, 35, "ssc_train.h5, ssc_valid.h5 and ssc_test.h5")


def _listed(dataset: str, data_dir: Path | str | None, part: str, classes: int, files: str) -> Recordings:
    layout = f"{files}, {_SOURCE}"
    folder = data_folder(dataset, data_dir, layout)
    path = folder / f"{dataset}_{part}.h5"
    packed = path.with_suffix(".h5.gz")
    if not path.exists() and packed.exists():
        raise DatasetMissing(
            f"'{dataset}' looks for {path.name} in {folder.absolute()}, which holds {packed.name}. Single rows of a "
            f"packed file cannot be read. Unpack it once: gunzip -k {packed}"
        )
    if not path.exists():
        raise missing(dataset, folder, f"{path.name}, one of {layout}")
    found = read_rows(path)
    names = found.classes or tuple(map(str, range(classes)))
    if len(names) != classes or not len(found.labels) or found.labels.max() >= classes:
        raise DatasetCorrupt(
            f"{path} was read as a part of '{dataset}', which has {classes} classes, but it has {len(found.labels)} "
            f"recordings, labels up to {max(found.labels, default=None)} and {len(names)} names. It is another file. "
            "Fetch it again."
        )
    rows = [Row(path, row) for row in range(len(found.labels))]
    return Recordings(dataset, part, rows, found.labels, names, 1, CHANNELS, polarities=1)
