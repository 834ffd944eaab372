"""Workloads by name; each yields its tables as they are completed."""

from collections.abc import Callable, Iterator

from spikewright.bench.measure import Tell
from spikewright.bench.report import Table
from spikewright.bench.settings import BenchSettings
from spikewright.bench.workloads._layer import layer
from spikewright.bench.workloads._linear import linear
from spikewright.bench.workloads._memory import memory
from spikewright.bench.workloads.training import conv, mlp

Workload = Callable[[BenchSettings, Tell], Iterator[Table]]
WORKLOADS: dict[str, Workload] = {"layer": layer, "mlp": mlp, "conv": conv, "linear": linear, "memory": memory}
