"""The probe of a network: who feeds whom, and whether it can be vouched for, found by running one step of it."""

from spikewright.probing.failures import explained as explained
from spikewright.probing.parts import Parts as Parts
from spikewright.probing.parts import Reading as Reading
from spikewright.probing.probe import probe as probe
