"""Benchmarks of spikewright and other spiking libraries, timed in turn in one process."""

from spikewright.bench._environment import environment as environment
from spikewright.bench._run import run as run
from spikewright.bench.report import Table as Table
from spikewright.bench.settings import BenchSettings as BenchSettings

__all__ = ["BenchSettings", "Table", "environment", "run"]


def __dir__() -> list[str]:
    return __all__
