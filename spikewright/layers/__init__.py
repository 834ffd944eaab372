"""Layers for spiking networks beside those of PyTorch; all are ordinary modules, used inside a `Network`."""

from spikewright.layers.batch_norm import JointBatchNorm1d as JointBatchNorm1d
from spikewright.layers.batch_norm import JointBatchNorm2d as JointBatchNorm2d
from spikewright.layers.batch_norm import PerStepBatchNorm1d as PerStepBatchNorm1d
from spikewright.layers.batch_norm import PerStepBatchNorm2d as PerStepBatchNorm2d
from spikewright.layers.delay import SynapticDelay as SynapticDelay
from spikewright.layers.dropout import SharedDropout as SharedDropout
from spikewright.layers.dropout import StepDropout as StepDropout
from spikewright.layers.feedback import Feedback as Feedback
from spikewright.layers.recurrent import Recurrent as Recurrent
from spikewright.layers.restriction import operator_norm as operator_norm
from spikewright.layers.restriction import power_iteration as power_iteration
from spikewright.layers.restriction import restrict_frobenius as restrict_frobenius
from spikewright.layers.restriction import restrict_spectral as restrict_spectral
from spikewright.layers.scale import Scale as Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d as ScaledWSConv2d
from spikewright.layers.weight_standardization import ScaledWSLinear as ScaledWSLinear

__all__ = [
    "Feedback",
    "JointBatchNorm1d",
    "JointBatchNorm2d",
    "PerStepBatchNorm1d",
    "PerStepBatchNorm2d",
    "Recurrent",
    "Scale",
    "ScaledWSConv2d",
    "ScaledWSLinear",
    "SharedDropout",
    "StepDropout",
    "SynapticDelay",
    "operator_norm",
    "power_iteration",
    "restrict_frobenius",
    "restrict_spectral",
]


def __dir__() -> list[str]:
    return __all__
