"""Train spiking neural networks with interchangeable learning rules over an unchanged PyTorch network."""

from spikewright import layers as layers
from spikewright import losses as losses
from spikewright import rules as rules
from spikewright import solvers as solvers
from spikewright import spatial as spatial
from spikewright import surrogate as surrogate
from spikewright.layers.delay import SynapticDelay as SynapticDelay
from spikewright.layers.feedback import Feedback as Feedback
from spikewright.network import Network as Network
from spikewright.network.run import Run as Run
from spikewright.neurons import IF as IF
from spikewright.neurons import LIF as LIF
from spikewright.neurons import AlphaLIF as AlphaLIF
from spikewright.neurons import Dynamics as Dynamics
from spikewright.neurons import Neuron as Neuron
from spikewright.reports.energy_estimate import Energy as Energy
from spikewright.reports.energy_estimate import energy as energy
from spikewright.reports.gradient_check import Certificate as Certificate
from spikewright.reports.gradient_check import certify as certify
from spikewright.reports.memory_profile import Plan as Plan
from spikewright.reports.memory_profile import plan as plan
from spikewright.synapses.synapse import SynapticInput as SynapticInput
from spikewright.temporal import detach as detach

__version__ = "0.1.0"
