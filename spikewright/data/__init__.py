"""Image data sets, sequences of different lengths, and batches."""

from spikewright.data.batches import Batches as Batches
from spikewright.data.buckets import bucketed as bucketed
from spikewright.data.dataset import Dataset as Dataset
from spikewright.data.dataset import Split as Split
from spikewright.data.encoding import ENCODINGS as ENCODINGS
from spikewright.data.encoding import ConstantCurrent as ConstantCurrent
from spikewright.data.encoding import Encoding as Encoding
from spikewright.data.encoding import Latency as Latency
from spikewright.data.encoding import Poisson as Poisson
from spikewright.data.registry import load as load
from spikewright.data.registry import loader as loader
from spikewright.data.registry import names as names
from spikewright.data.sequences import Sequences as Sequences
from spikewright.data.transforms import AUGMENTATIONS as AUGMENTATIONS

__all__ = [
    "AUGMENTATIONS",
    "ENCODINGS",
    "Batches",
    "ConstantCurrent",
    "Dataset",
    "Encoding",
    "Latency",
    "Poisson",
    "Sequences",
    "Split",
    "bucketed",
    "load",
    "loader",
    "names",
]


def __dir__() -> list[str]:
    return __all__
