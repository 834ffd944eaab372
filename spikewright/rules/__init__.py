"""Learning rules, one per file: each class docstring gives equation, cost, exactness and reference."""

from spikewright._util.share import Share as Share
from spikewright.rules._base import Rule as Rule
from spikewright.rules._base import Update as Update
from spikewright.rules._base import reference_rule as reference_rule
from spikewright.rules._batch import Batch as Batch
from spikewright.rules._check import check as check
from spikewright.rules._cost import Cost as Cost
from spikewright.rules._cost import Done as Done
from spikewright.rules._online import OnlineRule as OnlineRule
from spikewright.rules._traits import Traits as Traits
from spikewright.rules.bptt import BPTT as BPTT
from spikewright.rules.continual._around import ContinualRule as ContinualRule
from spikewright.rules.continual._projected import ProjectedRule as ProjectedRule
from spikewright.rules.continual.ewc import EWC as EWC
from spikewright.rules.continual.gpm import GPM as GPM
from spikewright.rules.continual.hlop import HLOP as HLOP
from spikewright.rules.continual.lwf import LwF as LwF
from spikewright.rules.continual.naive import Naive as Naive
from spikewright.rules.continual.replay import Replay as Replay
from spikewright.rules.eprop import EProp as EProp
from spikewright.rules.opzo import OPZO as OPZO
from spikewright.rules.ottt import OTTT as OTTT
from spikewright.rules.rates._rate import RateRule as RateRule
from spikewright.rules.rates.dsr import DSR as DSR
from spikewright.rules.rates.ide import IDE as IDE
from spikewright.rules.rates.spide import SPIDE as SPIDE
from spikewright.rules.sltt import SLTT as SLTT

__all__ = [
    "BPTT",
    "DSR",
    "EWC",
    "GPM",
    "HLOP",
    "IDE",
    "OPZO",
    "OTTT",
    "SLTT",
    "SPIDE",
    "Batch",
    "ContinualRule",
    "Cost",
    "Done",
    "EProp",
    "LwF",
    "Naive",
    "OnlineRule",
    "ProjectedRule",
    "RateRule",
    "Replay",
    "Rule",
    "Share",
    "Traits",
    "Update",
    "check",
    "reference_rule",
]


def __dir__() -> list[str]:
    return __all__
