"""Continual learning: scenarios of tasks, training in sequence, and measures of forgetting."""

from spikewright.continual._learn import learn as learn
from spikewright.continual.config import configure_continual as configure_continual
from spikewright.continual.course import ContinualExperiment as ContinualExperiment
from spikewright.continual.course import build_continual as build_continual
from spikewright.continual.matrix import AccuracyMatrix as AccuracyMatrix
from spikewright.continual.monitor import ContinualMonitor as ContinualMonitor
from spikewright.continual.protocol import TwoPhaseProtocol as TwoPhaseProtocol
from spikewright.continual.scenario import Scenario as Scenario
from spikewright.continual.scenario import permuted as permuted
from spikewright.continual.scenario import sequence as sequence
from spikewright.continual.scenario import split as split
from spikewright.continual.trajectory import Trajectory as Trajectory

__all__ = [
    "AccuracyMatrix",
    "ContinualExperiment",
    "ContinualMonitor",
    "Scenario",
    "Trajectory",
    "TwoPhaseProtocol",
    "build_continual",
    "configure_continual",
    "learn",
    "permuted",
    "sequence",
    "split",
]


def __dir__() -> list[str]:
    return __all__
