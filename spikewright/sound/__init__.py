"""Sound for spiking networks: WAV files, filter banks, spikes from their energies, and data sets."""

from spikewright.sound.coding import Analog as Analog
from spikewright.sound.coding import Coding as Coding
from spikewright.sound.coding import DeltaCode as DeltaCode
from spikewright.sound.coding import LatencyCode as LatencyCode
from spikewright.sound.coding import LevelCrossingCode as LevelCrossingCode
from spikewright.sound.dataset import Encoder as Encoder
from spikewright.sound.dataset import FittedEncoder as FittedEncoder
from spikewright.sound.dataset import SoundDataset as SoundDataset
from spikewright.sound.digits import speaker_of as speaker_of
from spikewright.sound.digits import spoken_digits as spoken_digits
from spikewright.sound.folder import sound_folder as sound_folder
from spikewright.sound.gammatone import GammatoneBank as GammatoneBank
from spikewright.sound.gammatone import erb as erb
from spikewright.sound.gammatone import erb_rate as erb_rate
from spikewright.sound.levels import LogCompression as LogCompression
from spikewright.sound.levels import Normalisation as Normalisation
from spikewright.sound.levels import Scaler as Scaler
from spikewright.sound.mel import MelBank as MelBank
from spikewright.sound.mel import hertz as hertz
from spikewright.sound.mel import to_mel as to_mel
from spikewright.sound.wav import read_wav as read_wav

__all__ = [
    "Analog",
    "Coding",
    "DeltaCode",
    "Encoder",
    "FittedEncoder",
    "GammatoneBank",
    "LatencyCode",
    "LevelCrossingCode",
    "LogCompression",
    "MelBank",
    "Normalisation",
    "Scaler",
    "SoundDataset",
    "erb",
    "erb_rate",
    "hertz",
    "read_wav",
    "sound_folder",
    "speaker_of",
    "spoken_digits",
    "to_mel",
]


def __dir__() -> list[str]:
    return __all__
