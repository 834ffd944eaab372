"""Losses over time: how the outputs of a sequence and a criterion make one number, and a penalty on firing rates.

A criterion is any callable `(output [batch, class], target) -> scalar`, such as `nn.CrossEntropyLoss()`.
"""

from spikewright.losses._base import Loss, LossOf
from spikewright.losses.criteria import CrossEntropyMSE, RateMSE
from spikewright.losses.firing_rate import FiringRatePenalty
from spikewright.losses.first_spike import FirstSpike
from spikewright.losses.last_step import LastStep
from spikewright.losses.max_over_time import MaxOverTime
from spikewright.losses.on_rate import OnRate
from spikewright.losses.per_step import PerStep
from spikewright.losses.spike_count import SpikeCount

__all__ = [
    "CrossEntropyMSE",
    "FiringRatePenalty",
    "FirstSpike",
    "LastStep",
    "Loss",
    "LossOf",
    "MaxOverTime",
    "OnRate",
    "PerStep",
    "RateMSE",
    "SpikeCount",
]


def __dir__() -> list[str]:
    return __all__
