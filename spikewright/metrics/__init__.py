"""What is counted: bytes, spikes, correct answers."""

from spikewright.metrics.memory import SavedBytes as SavedBytes
