"""Recordings of one's own, sorted into class folders."""

from pathlib import Path

import numpy as np

from spikewright.data.files import data_folder
from spikewright.errors import ConfigError, DatasetCorrupt
from spikewright.events.datasets.folders import check_part, class_folders, files_in
from spikewright.events.datasets.recordings import Recordings, WholeFile

LAYOUT = "a folder for each class, with files that spikewright.events.read knows; or train/ and test/ with such folders"


def folder(data_dir: Path | str | None, part: str | None = None) -> Recordings:
    """List recordings that are sorted into class folders, in any format that `read` knows.

    Classes are the folders, numbered alphabetically; those of `train`, if there are the folders `train` and `test`.
    The size of the sensor is that of the first file, and a file of another size is refused when it is read.

    Args:
        data_dir: Folder with `<class>/*`, or with `train/<class>/*` and `test/<class>/*`.
        part: "train" or "test", for a folder with both; None for one without.  Default: None.

    Raises:
        DatasetMissing: The folder is not there, or a class has no file.
        DatasetCorrupt: The first file cannot be read, or `test` has a class that `train` lacks.
        ConfigError: There is no such part, or none was given.
    """
    root = data_folder("folder", data_dir, LAYOUT)
    if (root / "train").is_dir() and (root / "test").is_dir():
        check_part("folder", str(part), ("train", "test"))
        classes = [each.name for each in class_folders("folder", root / "train", LAYOUT)]
        found = class_folders("folder", root / str(part), LAYOUT)
    elif part is not None:
        raise ConfigError(
            f"'folder' was asked for with part={part!r}, but {root} does not have both of train and test. "
            "Leave part out to read its class folders, or make the two folders."
        )
    else:
        found = class_folders("folder", root, LAYOUT)
        classes = [each.name for each in found]
    strange = [each for each in found if each.name not in classes]
    if strange:
        raise DatasetCorrupt(
            f"'folder' has the class folder {strange[0]}, but its training part has only {', '.join(classes)}. A "
            "class that is never learned cannot be measured. Add it to train, or remove it."
        )
    files = {each: files_in("folder", each, (), LAYOUT) for each in found}
    sources = [WholeFile(path) for each in files.values() for path in each]
    labels = [classes.index(own.name) for own, each in files.items() for _ in each]
    first = sources[0].events()
    return Recordings(
        "folder",
        part or "all",
        sources,
        np.array(labels),
        tuple(classes),
        first.height,
        first.width,
        first.polarities,
    )
