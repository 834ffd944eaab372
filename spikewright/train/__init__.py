"""Training from a configuration: one readable loop, and what it needs around it."""

from spikewright.train.build import Experiment as Experiment
from spikewright.train.build import build as build
from spikewright.train.config import Config as Config
from spikewright.train.config import configure as configure
from spikewright.train.evaluate import Score as Score
from spikewright.train.evaluate import evaluate as evaluate
from spikewright.train.fit import fit as fit
