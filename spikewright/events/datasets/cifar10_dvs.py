"""CIFAR10-DVS: moving images of CIFAR-10 on a screen, seen by a DVS128."""

import re
from pathlib import Path

import numpy as np

from spikewright.data.files import data_folder
from spikewright.errors import DatasetCorrupt
from spikewright.events.datasets.folders import check_part, files_in, inside
from spikewright.events.datasets.recordings import Recordings, WholeFile

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LAYOUT = (
    "ten folders airplane to truck with .aedat files, unpacked from airplane.zip to truck.zip (described at "
    "https://doi.org/10.6084/m9.figshare.4724671.v2)"
)


def cifar10_dvs(data_dir: Path | str | None, part: str = "train") -> Recordings:
    """List the recordings of CIFAR10-DVS: 128 x 128 pixels, 10 classes of 1,000 recordings each.

    The authors give no split.  Here the files of each class are put in the order of the number in their names, such as
    17 in `cifar10_cat_17.aedat`, and the first nine tenths (rounded down) are for training: 900 of each class, and 100
    for testing, as is usual in papers on spiking networks.  Accuracies on other splits are not comparable.

    x and y are as stored, as by `read_aedat2`: neither turned nor mirrored.

    Args:
        data_dir: Folder with `airplane/*.aedat` to `truck/*.aedat`, or with a folder `CIFAR10DVS` or `extract` that has
            them.
        part: "train" or "test".  Default: "train".

    Raises:
        DatasetMissing: A folder is not there, or has no `.aedat` file.
        DatasetCorrupt: A file has no number in its name, two have the same, or a class has a single file.
        ConfigError: There is no such part.

    Reference:
        Li, Liu, Ji, Li and Shi, CIFAR10-DVS: An Event-Stream Dataset for Object Classification, Frontiers in
        Neuroscience, 2017.
    """
    check_part("cifar10_dvs", part, ("train", "test"))
    root = inside(data_folder("cifar10_dvs", data_dir, LAYOUT), ("CIFAR10DVS", "CIFAR10-DVS", "extract"), CLASSES[0])
    sources, labels = list[WholeFile](), list[int]()
    for label, name in enumerate(CLASSES):
        files = _by_number(files_in("cifar10_dvs", root / name, (".aedat",), LAYOUT))
        cut = len(files) * 9 // 10
        chosen = files[:cut] if part == "train" else files[cut:]
        sources += map(WholeFile, chosen)
        labels += [label] * len(chosen)
    return Recordings("cifar10_dvs", part, sources, np.array(labels), CLASSES, 128, 128)


def _by_number(files: list[Path]) -> list[Path]:
    numbers = dict[int, Path]()
    for path in files:
        match = re.search(r"(\d+)$", path.stem)
        if match is None or int(match[1]) in numbers:
            raise DatasetCorrupt(
                f"'cifar10_dvs' splits the files of {path.parent} by the numbers in their names, but {path.name} has "
                "none, or that of another one. Without them the split would be another. Take it out, or fetch it again."
            )
        numbers[int(match[1])] = path
    if len(files) < 2:
        raise DatasetCorrupt(
            f"'cifar10_dvs' splits the files of {files[0].parent} into nine tenths and the rest, but there is only "
            f"{files[0].name}. A class has to be in both. Unpack the archive again."
        )
    return [numbers[number] for number in sorted(numbers)]
