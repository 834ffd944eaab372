"""Event streams: readers of the usual files, and frames made of events."""

from spikewright.events.readers.aedat2 import read_aedat2 as read_aedat2
from spikewright.events.readers.aedat3 import read_aedat3 as read_aedat3
from spikewright.events.readers.aedat4 import read_aedat4 as read_aedat4
from spikewright.events.readers.choose import read as read
from spikewright.events.readers.dat import read_dat as read_dat
from spikewright.events.readers.evt2 import read_evt2 as read_evt2
from spikewright.events.readers.evt3 import read_evt3 as read_evt3
from spikewright.events.readers.nmnist import read_nmnist as read_nmnist
from spikewright.events.readers.spikes import read_spikes as read_spikes
from spikewright.events.recording import Events as Events

__all__ = [
    "Events",
    "read",
    "read_aedat2",
    "read_aedat3",
    "read_aedat4",
    "read_dat",
    "read_evt2",
    "read_evt3",
    "read_nmnist",
    "read_spikes",
]


def __dir__() -> list[str]:
    return __all__
