"""The probe of a network: who feeds whom, and whether it can be vouched for, found by running one step of it."""

from spikewright.network.probing._probe import probe as probe
from spikewright.network.probing.failures import explained as explained
from spikewright.network.probing.parts import Parts as Parts
from spikewright.network.probing.parts import Reading as Reading
