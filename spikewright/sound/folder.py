"""Any WAV files sorted into class folders."""

import warnings
from pathlib import Path

from spikewright.data.class_folders import Noticed, list_files
from spikewright.data.files import data_folder, missing
from spikewright.errors import DatasetCorrupt
from spikewright.sound.dataset import Encoder, SoundDataset, encoded

LAYOUT = "WAV files as train/<class>/*.wav and test/<class>/*.wav"


def sound_folder(data_dir: Path | str | None, encoder: Encoder, mono: bool = False) -> SoundDataset:
    """Load WAV files that are sorted into class folders.

    Classes are the folders in `train`, numbered alphabetically; a file anywhere below a class folder is of that class.
    A `UserWarning` names what is left out: other files, hidden ones, and folders beside `train` and `test`.

    Args:
        data_dir: Folder with `train/<class>/*.wav` and `test/<class>/*.wav`.
        encoder: The way from samples to sequences; its filter bank has the rate of all files.
        mono: True takes the mean of the channels of a file; False refuses files of several.  Default: False.

    Raises:
        DatasetMissing: A folder is not there, a class has no training file, or `test` has no file.
        DatasetCorrupt: A file is damaged or has another rate, or `test` has a class that `train` lacks.
        ConfigError: `encoder` is none, or `mono` is no bool.
    """
    root = data_folder("sound_folder", data_dir, LAYOUT)
    noticed = Noticed()
    train, test = list_files("sound_folder", root, noticed, (".wav",), LAYOUT, "WAV files")
    strange = sorted(test.keys() - train.keys())
    if strange:
        raise DatasetCorrupt(
            f"'sound_folder' has the class folder {root / 'test' / strange[0]}, but its training part has only "
            f"{', '.join(train)}. A class that is never learned cannot be measured. Add it to train, or remove it."
        )
    bare = [root / "train" / name for name, files in train.items() if not files]
    if bare or not any(test.values()):
        raise missing("sound_folder", (bare or [root / "test"])[0], "WAV files (.wav)")
    classes = list(train)
    unmeasured = [root / "test" / name for name in classes if not test.get(name)]
    if unmeasured:
        noticed.read_so["classes without a test file, of which nothing is measured"] = unmeasured
    parts = [[(path, classes.index(name)) for name, files in part.items() for path in files] for part in (train, test)]
    message = noticed.message("sound_folder", sum(map(len, parts)), "WAV files")
    if message is not None:
        warnings.warn(message, stacklevel=2)
    return encoded("sound_folder", root, parts[0], parts[1], classes, encoder, mono)
