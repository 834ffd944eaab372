"""Data sets of small WAV files that the test writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spikewright.errors import ConfigError, DatasetCorrupt, DatasetMissing, InputError
from spikewright.sound import (
    DeltaCode,
    Encoder,
    MelBank,
    Normalisation,
    read_wav,
    sound_folder,
    speaker_of,
    spoken_digits,
)
from tests.sound.files import write_tone

ENCODER = Encoder(MelBank(8000, bands=8, window=0.032, step=0.016))


def write_digits(folder: Path, indices: range = range(4, 7), speakers: tuple[str, ...] = ("ann", "bob")) -> None:
    """Digits as tones, some longer than others."""
    for digit in range(10):
        for place, speaker in enumerate(speakers):
            for index in indices:
                path = folder / f"{digit}_{speaker}_{index}.wav"
                write_tone(path, 200 + 300 * digit, 0.05 + 0.02 * index, peak=0.2 + 0.3 * place)


@pytest.mark.parametrize("inside", ["", "recordings"])
def test_the_usual_test_part(tmp_path: Path, inside: str) -> None:
    write_digits(tmp_path / inside)
    data = spoken_digits(tmp_path, ENCODER, verify=False)
    assert (data.classes, data.class_names[7], data.feature) == (10, "7", (8,))
    assert (len(data.train), len(data.test)) == (40, 20)
    assert all("_4.wav" in name for name in data.test_files)
    assert data.train_files[:3] == ("0_ann_5.wav", "0_ann_6.wav", "0_bob_5.wav")
    assert data.train.labels.tolist() == [int(name[0]) for name in data.train_files]
    x, lengths = data.train.batch(torch.tensor([1, 4]))
    for row, (place, length) in enumerate(zip((1, 4), lengths.tolist())):
        samples, _ = read_wav(tmp_path / inside / data.train_files[place])
        energy = (ENCODER.bank(samples[0]) + 1e-8).log()
        meant = (energy - energy.mean()) / energy.std(correction=0)
        assert length == len(meant)
        torch.testing.assert_close(x[:length, row], meant)
        assert torch.equal(data.encoder(samples), x[:length, row])


def test_a_delay_line(tmp_path: Path) -> None:
    samples = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    plain = Encoder(ENCODER.bank, coding=DeltaCode(0.5))
    coded, lined = (replace(plain, context=context).fit([])(samples) for context in (0, 2))
    assert lined.shape == (len(coded), 3, 2, 8) and lined.dtype == torch.uint8
    for t in range(len(coded)):
        for k in range(3):
            assert torch.equal(lined[t, k], coded[t - k] if t >= k else torch.zeros(2, 8, dtype=torch.uint8))
    with pytest.raises(ConfigError, match="context"):
        Encoder(ENCODER.bank, context=-1)


def test_one_speaker_is_left_out(tmp_path: Path) -> None:
    write_digits(tmp_path)
    data = spoken_digits(tmp_path, ENCODER, leave_out="bob", verify=False)
    assert {speaker_of(name) for name in data.test_files} == {"bob"}
    assert {speaker_of(name) for name in data.train_files} == {"ann"}
    assert (len(data.train), len(data.test)) == (30, 30)
    with pytest.raises(ConfigError, match=r"The speaker 'bop' is unknown. Did you mean 'bob'"):
        spoken_digits(tmp_path, ENCODER, leave_out="bop", verify=False)
    with pytest.raises(InputError, match=r"such as 7_jackson_32.wav"):
        speaker_of("seven.wav")


def test_statistics_are_of_the_training_part_alone(tmp_path: Path) -> None:
    """A test recording of another loudness changes nothing that is learned from."""
    write_digits(tmp_path)
    encoder = Encoder(ENCODER.bank, normalisation=Normalisation(over="training"), coding=DeltaCode(0.1, 255))
    first = spoken_digits(tmp_path, encoder, verify=False)
    write_tone(tmp_path / "3_ann_4.wav", 1000, 0.2, peak=1.0)
    second = spoken_digits(tmp_path, encoder, verify=False)
    assert first.feature == (2, 8) and first.train.values.dtype == torch.uint8
    assert torch.equal(first.train.places, second.train.places)
    assert torch.equal(first.train.values, second.train.values)
    assert first.test.steps.tolist() != second.test.steps.tolist()
    features = [encoder.features(read_wav(tmp_path / name)[0]) for name in first.train_files]
    everything = np.concatenate([each.numpy() for each in features])
    fixed = first.encoder.scaler.fixed
    assert fixed is not None
    assert float(fixed[0]) == pytest.approx(everything.mean(), rel=1e-5)
    assert float(fixed[1]) == pytest.approx(everything.std(), rel=1e-5)


def test_digits_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing, match=r"without a data_dir.*7_jackson_32.wav"):
        spoken_digits(None)
    with pytest.raises(DatasetMissing, match=r"there is nothing at"):
        spoken_digits(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetMissing, match=r"7_jackson_32.wav.*holds 1 entries: notes.txt"):
        spoken_digits(tmp_path)
    write_digits(tmp_path)
    with pytest.raises(
        DatasetMissing, match=r"holds 60 recordings of 2 speakers \(ann, bob\).*there is no 0_ann_0.wav"
    ):
        spoken_digits(tmp_path)
    for path in tmp_path.glob("*_4.wav"):
        path.unlink()
    with pytest.raises(DatasetMissing, match="recordings of both parts"):
        spoken_digits(tmp_path, ENCODER, verify=False)


def test_other_files_among_the_digits(tmp_path: Path) -> None:
    write_digits(tmp_path)
    write_tone(tmp_path / "ten_ann_0.wav")
    with pytest.warns(UserWarning, match="read 60 recordings, and left out 1 WAV files.*ten_ann_0.wav"):
        spoken_digits(tmp_path, ENCODER, verify=False)


def test_rates_and_channels_are_not_guessed(tmp_path: Path) -> None:
    write_digits(tmp_path)
    write_tone(tmp_path / "3_ann_5.wav", rate=16000)
    with pytest.raises(DatasetCorrupt, match=r"3_ann_5.wav has 16000 samples in a second.*ffmpeg -i FILE -ar 8000"):
        spoken_digits(tmp_path, ENCODER, verify=False)
    write_tone(tmp_path / "3_ann_5.wav", channels=2)
    with pytest.raises(DatasetCorrupt, match=r"3_ann_5.wav has 2\. Which of them"):
        spoken_digits(tmp_path, ENCODER, verify=False)


def write_folder(root: Path) -> None:
    for part, name, file in (
        ("train", "no", "a"),
        ("train", "no", "deep/b"),
        ("train", "yes", "c"),
        ("test", "yes", "d"),
        ("test", "no", "e"),
    ):
        write_tone(root / part / name / f"{file}.wav", rate=16000, channels=2, seconds=0.1)


def test_class_folders(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "no" / "notes.txt").write_text("of the speaker")
    encoder = Encoder(MelBank(16000, bands=8))
    with pytest.warns(UserWarning) as told:
        data = sound_folder(tmp_path, encoder, mono=True)
    text = str(told[0].message)
    assert "'sound_folder' read 5 WAV files" in text and "1 (" in text and "without an ending of WAV files" in text
    assert "in folders inside class folders, as WAV files of the outer one" in text
    assert data.class_names == ("no", "yes")
    assert data.train_files == ("train/no/a.wav", "train/no/deep/b.wav", "train/yes/c.wav")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1], [0, 1])
    with pytest.warns(UserWarning), pytest.raises(DatasetCorrupt, match=r"Give mono=True for their mean"):
        sound_folder(tmp_path, encoder)


def test_class_folders_that_are_wrong(tmp_path: Path) -> None:
    encoder = Encoder(MelBank(16000, bands=8))
    with pytest.raises(DatasetMissing, match=r"train/<class>/\*.wav"):
        sound_folder(tmp_path, encoder)
    write_folder(tmp_path)
    write_tone(tmp_path / "test" / "perhaps" / "a.wav")
    with pytest.raises(DatasetCorrupt, match=r"perhaps.*has only no, yes"):
        sound_folder(tmp_path, encoder)
    (tmp_path / "test" / "perhaps" / "a.wav").unlink()
    (tmp_path / "test" / "perhaps").rmdir()
    (tmp_path / "train" / "yes" / "c.wav").unlink()
    with pytest.raises(DatasetMissing, match=r"looks for WAV files \(.wav\)"):
        sound_folder(tmp_path, encoder)
    with pytest.raises(ConfigError, match=r"encoder"):
        write_tone(tmp_path / "train" / "yes" / "c.wav")
        (tmp_path / "train" / "no" / "deep" / "b.wav").rename(tmp_path / "train" / "no" / "b.wav")
        (tmp_path / "train" / "no" / "deep").rmdir()
        sound_folder(tmp_path, MelBank(16000))  # type: ignore[arg-type]
