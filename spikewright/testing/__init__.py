"""A test kit for learning rules and neurons of your own; it needs no test framework."""

from spikewright.testing.nets import NETS as NETS
from spikewright.testing.neuron import assert_neuron as assert_neuron
from spikewright.testing.rule import assert_rule as assert_rule

__all__ = ["NETS", "assert_neuron", "assert_rule"]


def __dir__() -> list[str]:
    return __all__
