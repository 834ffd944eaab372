"""Counters of bytes and operations."""

from spikewright.metrics.allocation import AllocatedBytes as AllocatedBytes
from spikewright.metrics.memory import SavedBytes as SavedBytes
from spikewright.metrics.operations import Operations as Operations
from spikewright.metrics.operations import SynapseCounter as SynapseCounter
from spikewright.metrics.operations import Work as Work

__all__ = ["AllocatedBytes", "Operations", "SavedBytes", "SynapseCounter", "Work"]


def __dir__() -> list[str]:
    return __all__
