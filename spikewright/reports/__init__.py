"""Gradient check, memory profile and energy estimate of a rule on a network."""

from spikewright.reports.energy_estimate import Energy as Energy
from spikewright.reports.energy_estimate import energy as energy
from spikewright.reports.gradient_check import Certificate as Certificate
from spikewright.reports.gradient_check import certify as certify
from spikewright.reports.memory_profile import Plan as Plan
from spikewright.reports.memory_profile import plan as plan

__all__ = ["Certificate", "Energy", "Plan", "certify", "energy", "plan"]


def __dir__() -> list[str]:
    return __all__
