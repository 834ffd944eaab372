"""Learning rules, one a file; the file is the paper."""

from spikewright.rules._around import AroundRule as AroundRule
from spikewright.rules._base import Rule as Rule
from spikewright.rules._base import Update as Update
from spikewright.rules._online import OnlineRule as OnlineRule
from spikewright.rules._projected import ProjectedRule as ProjectedRule
from spikewright.rules._rate import RateRule as RateRule
from spikewright.rules.bptt import BPTT as BPTT
from spikewright.rules.dsr import DSR as DSR
from spikewright.rules.ewc import EWC as EWC
from spikewright.rules.gpm import GPM as GPM
from spikewright.rules.hlop import HLOP as HLOP
from spikewright.rules.ide import IDE as IDE
from spikewright.rules.lwf import LwF as LwF
from spikewright.rules.naive import Naive as Naive
from spikewright.rules.opzo import OPZO as OPZO
from spikewright.rules.ottt import OTTT as OTTT
from spikewright.rules.replay import Replay as Replay
from spikewright.rules.sltt import SLTT as SLTT
from spikewright.rules.spide import SPIDE as SPIDE
