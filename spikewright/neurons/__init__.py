"""Neurons, one dynamics a file."""

from spikewright.neurons._base import Neuron as Neuron
from spikewright.neurons._dynamics import Dynamics as Dynamics
from spikewright.neurons.adaptive import ALIF as ALIF
from spikewright.neurons.alpha import AlphaLIF as AlphaLIF
from spikewright.neurons.current_based import CUBALIF as CUBALIF
from spikewright.neurons.dsr import DSRIF as DSRIF
from spikewright.neurons.dsr import DSRLIF as DSRLIF
from spikewright.neurons.integrate_fire import IF as IF
from spikewright.neurons.integrator import LI as LI
from spikewright.neurons.leaky import LIF as LIF

__all__ = ["ALIF", "CUBALIF", "DSRIF", "DSRLIF", "IF", "LI", "LIF", "AlphaLIF", "Dynamics", "Neuron"]


def __dir__() -> list[str]:
    return __all__
