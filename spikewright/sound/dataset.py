"""Recordings with classes as sequences, and the way from samples to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count, check_flag, check_instance
from spikewright.data.sequences import Sequences
from spikewright.errors import ConfigError, DatasetCorrupt
from spikewright.sound.coding import Analog, Coding
from spikewright.sound.gammatone import GammatoneBank
from spikewright.sound.levels import LogCompression, Normalisation, Scaler
from spikewright.sound.mel import MelBank
from spikewright.sound.wav import read_wav


@dataclass(frozen=True)
class Encoder:
    r"""The way from samples to the input of a network: filter bank, logarithm, normalisation, coding, delay line.

    With c(t) what the coding makes of a recording, and zeros before its start, the input is

    .. math::
        x[t] = \bigl(c[t],\ c[t-1],\ \dots,\ c[t-\text{context}]\bigr),

    `[step, *feature]` without context and `[step, context + 1, *feature]` with.  A delay line gives rules that carry no
    credit through time the recent past at once.

    Args:
        bank: Filter bank, whose `rate` all recordings have.  `MelBank` or `GammatoneBank`.
        compression: Logarithm of the energies.  Default: `LogCompression()`.
        normalisation: Common range of the features.  Default: `Normalisation()`, mean 0 and deviation 1 in every
            recording.
        coding: Currents or spikes of the features.  Default: `Analog()`.
        context: Number of earlier steps beside each step, from 0 to 10**6.  Default: 0.

    Raises:
        ConfigError: A part is of another class, or `context` is out of range.

    >>> import torch
    >>> from spikewright.sound import DeltaCode, Encoder, MelBank
    >>> encoder = Encoder(MelBank(8000, bands=20), coding=DeltaCode(0.5))
    >>> encode = encoder.fit([])
    >>> encode(torch.randn(1, 800)).shape
    torch.Size([9, 2, 20])
    """

    bank: MelBank | GammatoneBank
    compression: LogCompression = field(default_factory=LogCompression)
    normalisation: Normalisation = field(default_factory=Normalisation)
    coding: Coding = field(default_factory=Analog)
    context: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.bank, MelBank | GammatoneBank):
            raise ConfigError(
                f"Encoder(bank={self.bank!r}): energies come from a filter bank. Give such as MelBank(8000)."
            )
        check_instance("Encoder", "compression", self.compression, LogCompression, "LogCompression()")
        check_instance("Encoder", "normalisation", self.normalisation, Normalisation, "Normalisation()")
        check_instance("Encoder", "coding", self.coding, Coding, "Analog()")
        check_count("Encoder", "context", self.context, "it is a number of earlier steps", least=0, most=MOST)

    def features(self, samples: Tensor) -> Tensor:
        """Return the compressed energies of a recording, `[frame, band]`.

        Args:
            samples: Samples of one channel, `[1, sample]` or `[sample]`.
        """
        return self.compression(self.bank(samples.reshape(-1)))

    def fit(self, training: Sequence[Tensor]) -> "FittedEncoder":
        """Return the encoder with the statistics of the training part.

        Args:
            training: What `features` returned for the training recordings; may be empty if statistics are those of
                each recording.

        Raises:
            InputError: There is none, and `normalisation` is over the training part.
        """
        own = self.normalisation.over == "recording" and not training
        return FittedEncoder(self, Scaler(self.normalisation, None) if own else self.normalisation.fit(training))


@dataclass(frozen=True, eq=False)
class FittedEncoder:
    """An `Encoder` with statistics of a training part.

    Args:
        encoder: The encoder.
        scaler: Its normalisation, with statistics.
    """

    encoder: Encoder
    scaler: Scaler

    def encode(self, features: Tensor) -> Tensor:
        """Return the input of a network, `[step, *feature]`.

        Args:
            features: What `Encoder.features` returned, `[frame, band]`.
        """
        coded, context = self.encoder.coding(self.scaler(features)), self.encoder.context
        if not context:
            return coded
        padded = torch.cat([coded.new_zeros(context, *coded.shape[1:]), coded])
        return torch.stack([padded[context - k : len(padded) - k] for k in range(context + 1)], 1)

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the input of a network, `[step, *feature]`.

        Args:
            samples: Samples of one channel, `[1, sample]` or `[sample]`.
        """
        return self.encode(self.encoder.features(samples))


@dataclass(frozen=True, eq=False)
class SoundDataset:
    """Recordings in two parts, as sequences.

    Args:
        name: Name of the data set.
        train: Sequences to learn from.
        test: Sequences to measure on.
        class_names: Name of each class, by its number.
        train_files: Names of the files of `train`, in its order.
        test_files: Names of the files of `test`, in its order.
        encoder: The encoder, with its statistics, for further recordings.
    """

    name: str
    train: Sequences
    test: Sequences
    class_names: tuple[str, ...]
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    encoder: FittedEncoder

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def feature(self) -> tuple[int, ...]:
        """Shape of a step."""
        return self.train.feature


Labelled = Sequence[tuple[Path, int]]


def encoded(
    name: str, root: Path, train: Labelled, test: Labelled, classes: Sequence[str], encoder: Encoder, mono: bool
) -> SoundDataset:
    """Return the recordings of some files as sequences.

    Statistics are those of `train` alone.

    Args:
        name: Name of the data set, for messages.
        root: Folder relative to which files are named.
        train: Files to learn from, with their classes; at least one.
        test: Files to measure on, with their classes; at least one.
        classes: Names of the classes.
        encoder: Encoder of the recordings.
        mono: True takes the mean of the channels of a recording; False refuses more than one.

    Raises:
        DatasetCorrupt: A file cannot be read, has another rate than the encoder, or several channels.
        ConfigError: `encoder` is none, or `mono` is no bool.
    """
    check_instance(name, "encoder", encoder, Encoder, "Encoder(MelBank(8000))")
    check_flag(name, mono=mono)
    features = [[encoder.features(_one_channel(name, path, encoder.bank.rate, mono)) for path, _ in part]
                for part in (train, test)]  # fmt: skip
    fitted = encoder.fit(features[0])
    sequences = [
        Sequences.of((fitted.encode(each) for each in found), torch.tensor([label for _, label in part]))
        for found, part in zip(features, (train, test))
    ]
    files = [tuple(path.relative_to(root).as_posix() for path, _ in part) for part in (train, test)]
    return SoundDataset(name, sequences[0], sequences[1], tuple(classes), files[0], files[1], fitted)


def _one_channel(name: str, path: Path, rate: int, mono: bool) -> Tensor:
    samples, found = read_wav(path)
    if found != rate:
        raise DatasetCorrupt(
            f"'{name}' was asked for with a filter bank for {rate} Hz, but {path} has {found} samples in a second. "
            f"Bands of another rate are other bands, and rates are not converted here. Give a bank with rate={found} "
            f"if all files have it, or convert them, such as with: ffmpeg -i FILE -ar {rate} NEW.wav"
        )
    if len(samples) > 1 and not mono:
        raise DatasetCorrupt(
            f"'{name}' reads recordings of one channel, but {path} has {len(samples)}. Which of them counts is for you "
            "to say. Give mono=True for their mean, or files of one channel."
        )
    return samples.mean(0)
