"""Measuring spikewright beside its peers, in one process and in turn."""

from spikewright.bench.environment import environment as environment
from spikewright.bench.report import Table as Table
from spikewright.bench.run import run as run
from spikewright.bench.settings import Settings as Settings
