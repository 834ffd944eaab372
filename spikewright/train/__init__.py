"""Training: the loop for a user's own network and data, and runs from a configuration."""

from spikewright._util.allocator import reuse_freed_memory as reuse_freed_memory
from spikewright.train._build import Experiment as Experiment
from spikewright.train._build import build as build
from spikewright.train._build import load_weights as load_weights
from spikewright.train._evaluate import Score as Score
from spikewright.train._evaluate import evaluate as evaluate
from spikewright.train._fit import fit as fit
from spikewright.train._train_experiment import train_experiment as train_experiment
from spikewright.train.config import Config as Config
from spikewright.train.config import configure as configure
from spikewright.train.group import average_gradients as average_gradients
from spikewright.train.group import batch_share as batch_share
from spikewright.train.optimizers import MuonAdamW as MuonAdamW

__all__ = [
    "Config",
    "Experiment",
    "MuonAdamW",
    "Score",
    "average_gradients",
    "batch_share",
    "build",
    "configure",
    "evaluate",
    "fit",
    "load_weights",
    "reuse_freed_memory",
    "train_experiment",
]


def __dir__() -> list[str]:
    return __all__
