"""Measuring spikewright beside its peers, in one process and in turn."""

from spikewright.bench._environment import environment as environment
from spikewright.bench._run import run as run
from spikewright.bench.report import Table as Table
from spikewright.bench.settings import BenchSettings as BenchSettings

__all__ = ["BenchSettings", "Table", "environment", "run"]


def __dir__() -> list[str]:
    return __all__
