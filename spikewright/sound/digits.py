"""The Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from spikewright._util.ranges import check_flag, check_known
from spikewright.data.files import data_folder, missing
from spikewright.errors import DatasetMissing, InputError
from spikewright.sound.dataset import Encoder, SoundDataset, encoded
from spikewright.sound.mel import MelBank

LAYOUT = "the recordings, such as 7_jackson_32.wav (digit, speaker, index), or a folder 'recordings' with them"
_NAME = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")
_DIGITS, _SPEAKERS, _INDICES, _TEST = range(10), 6, range(50), range(5)


def spoken_digits(
    data_dir: Path | str | None, encoder: Encoder | None = None, leave_out: str | None = None, verify: bool = True
) -> SoundDataset:
    """Load the Free Spoken Digit Dataset: ten digits, six speakers, 50 recordings each, at 8 kHz.

    The test part is the usual one, the recordings with the index 0 to 4 of every digit and speaker (300, and 2,700 for
    training); its speakers are those of the training part.  With `leave_out` it is all 500 recordings of one speaker,
    and training sees the other five.  Files are in the order of digit, speaker and index.

    Args:
        data_dir: Folder that holds `{digit}_{speaker}_{index}.wav`, or a folder `recordings` with them.
        encoder: The way from samples to sequences.  Default: None,
            `Encoder(MelBank(8000, window=0.032, step=0.016))`, 40 bands as a current.
        leave_out: Name of the speaker of the test part.  Default: None, the usual test part.
        verify: True asks for all 3,000 recordings of version 1.0.10; False takes those that are there.  Default: True.

    Raises:
        DatasetMissing: The folder is not there, or recordings are missing in it.
        DatasetCorrupt: A recording is damaged, has another rate, or several channels.
        ConfigError: The speaker is unknown, or `verify` is no bool.

    Reference:
        Jackson, Souza, Flaks, Pan, Nicolas, Thite, Free Spoken Digit Dataset v1.0.10, 2020, doi 10.5281/zenodo.1342401.
        Licence CC BY-SA 4.0.
    """
    check_flag("spoken_digits", verify=verify)
    folder = data_folder("spoken_digits", data_dir, LAYOUT)
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    found = _recordings(folder)
    speakers = sorted({speaker for _, speaker, _ in found})
    if verify:
        _check_complete(folder, found, speakers)
    if leave_out is not None:
        check_known("The speaker", leave_out, speakers)
    parts: tuple[list[tuple[Path, int]], list[tuple[Path, int]]] = [], []
    for (digit, speaker, index), path in sorted(found.items()):
        tests = index in _TEST if leave_out is None else speaker == leave_out
        parts[tests].append((path, digit))
    if not all(parts):
        raise missing("spoken_digits", folder, "recordings of both parts, with an index of 0 to 4 and above")
    encoder = Encoder(MelBank(8000, window=0.032, step=0.016)) if encoder is None else encoder
    names = [str(digit) for digit in _DIGITS]
    return encoded("spoken_digits", folder, *parts, names, encoder, mono=False)


def speaker_of(file: str) -> str:
    """Return the speaker of a recording by the name of its file.

    Args:
        file: Name such as those of `SoundDataset.train_files`.

    Raises:
        InputError: It is no such name.

    >>> from spikewright.sound import speaker_of
    >>> speaker_of("7_jackson_32.wav")
    'jackson'
    """
    match = _NAME.fullmatch(file)
    if match is None:
        raise InputError(
            f"speaker_of was given '{file}'. A recording of the spoken digits is named digit, speaker, index, such as "
            "7_jackson_32.wav. Give such a name."
        )
    return match[2]


def _recordings(folder: Path) -> dict[tuple[int, str, int], Path]:
    found, others = dict[tuple[int, str, int], Path](), list[Path]()
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            others.append(path)
        else:
            found[int(match[1]), match[2], int(match[3])] = path
    if not found:
        raise missing("spoken_digits", folder, LAYOUT)
    sounds = [path for path in others if path.suffix.lower() == ".wav"]
    if sounds:
        warnings.warn(
            f"'spoken_digits' read {len(found)} recordings, and left out {len(sounds)} WAV files whose names are not "
            f"digit_speaker_index.wav, the first {sounds[0]}.",
            stacklevel=3,
        )
    return found


def _check_complete(folder: Path, found: dict[tuple[int, str, int], Path], speakers: Sequence[str]) -> None:
    wanted = {(digit, speaker, index) for digit in _DIGITS for speaker in speakers for index in _INDICES}
    lacking = sorted(wanted - found.keys())
    if lacking or len(speakers) != _SPEAKERS or len(found) != len(wanted):
        example = "{}_{}_{}.wav".format(*lacking[0]) if lacking else "that of another speaker"
        raise DatasetMissing(
            f"'spoken_digits' was asked for with verify=True from {folder.absolute()}, which holds {len(found)} "
            f"recordings of {len(speakers)} speakers ({', '.join(speakers)}), where version 1.0.10 has 3000 of 6; "
            f"there {'is no' if lacking else 'should be no more than 50 indices;'} {example}. Results on another set "
            "cannot be compared. Put all recordings there, or give verify=False."
        )
