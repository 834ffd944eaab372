"""Train spiking neural networks with interchangeable learning rules over an unchanged PyTorch network.

A public name is imported, and torch with it, when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikewright import continual as continual
    from spikewright import data as data
    from spikewright import errors as errors
    from spikewright import events as events
    from spikewright import graph as graph
    from spikewright import interop as interop
    from spikewright import layers as layers
    from spikewright import losses as losses
    from spikewright import metrics as metrics
    from spikewright import models as models
    from spikewright import network as network
    from spikewright import neurons as neurons
    from spikewright import reports as reports
    from spikewright import rules as rules
    from spikewright import solvers as solvers
    from spikewright import sound as sound
    from spikewright import spatial as spatial
    from spikewright import surrogate as surrogate
    from spikewright import testing as testing
    from spikewright import train as train
    from spikewright.layers import Feedback, Recurrent, SynapticDelay
    from spikewright.network import Network
    from spikewright.network.run import Run
    from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF, AlphaLIF, Dynamics, Neuron
    from spikewright.reports import Certificate, Energy, Plan, certify, energy, plan
    from spikewright.synapses.synapse import SynapticInput
    from spikewright.temporal import detach
    from spikewright.train import fit

__version__ = "0.1.0"
__all__ = [
    "ALIF",
    "CUBALIF",
    "IF",
    "LI",
    "LIF",
    "AlphaLIF",
    "Certificate",
    "Dynamics",
    "Energy",
    "Feedback",
    "Network",
    "Neuron",
    "Plan",
    "Recurrent",
    "Run",
    "SynapticDelay",
    "SynapticInput",
    "__version__",
    "certify",
    "continual",
    "data",
    "detach",
    "energy",
    "errors",
    "events",
    "fit",
    "graph",
    "interop",
    "layers",
    "losses",
    "metrics",
    "models",
    "network",
    "neurons",
    "plan",
    "reports",
    "rules",
    "solvers",
    "sound",
    "spatial",
    "surrogate",
    "testing",
    "train",
]

_MODULES = {
    "layers": ("Feedback", "Recurrent", "SynapticDelay"),
    "network": ("Network",),
    "network.run": ("Run",),
    "neurons": ("ALIF", "CUBALIF", "IF", "LI", "LIF", "AlphaLIF", "Dynamics", "Neuron"),
    "reports": ("Certificate", "Energy", "Plan", "certify", "energy", "plan"),
    "synapses.synapse": ("SynapticInput",),
    "temporal": ("detach",),
    "train": ("fit",),
}
"""Where the public names are; the others are modules."""


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # so that type checkers know unknown names

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value  # found at once from now on
                return value
        return import_module(f"{__name__}.{name}")
