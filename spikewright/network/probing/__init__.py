"""The probe of a network: its wiring, read from passes of one step, and checks that it can be run over time."""

from spikewright.network.probing._probe import probe as probe
from spikewright.network.probing.failures import explained as explained
from spikewright.network.probing.parts import Parts as Parts
from spikewright.network.probing.parts import Reading as Reading
