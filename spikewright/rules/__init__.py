"""Learning rules, one a file; the file is the paper."""

from spikewright.rules._base import Rule as Rule
from spikewright.rules._base import Update as Update
from spikewright.rules._online import OnlineRule as OnlineRule
from spikewright.rules.bptt import BPTT as BPTT
from spikewright.rules.ottt import OTTT as OTTT
from spikewright.rules.sltt import SLTT as SLTT
