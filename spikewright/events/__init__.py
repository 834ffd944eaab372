"""Event streams: readers of the usual files, and frames made of events."""

from spikewright.events.datasets.cifar10_dvs import cifar10_dvs as cifar10_dvs
from spikewright.events.datasets.dvs_gesture import dvs_gesture as dvs_gesture
from spikewright.events.datasets.heidelberg import shd as shd
from spikewright.events.datasets.heidelberg import ssc as ssc
from spikewright.events.datasets.n_mnist import n_mnist as n_mnist
from spikewright.events.datasets.own import folder as folder
from spikewright.events.datasets.recordings import Recordings as Recordings
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
    "Recordings",
    "cifar10_dvs",
    "dvs_gesture",
    "folder",
    "n_mnist",
    "read",
    "read_aedat2",
    "read_aedat3",
    "read_aedat4",
    "read_dat",
    "read_evt2",
    "read_evt3",
    "read_nmnist",
    "read_spikes",
    "shd",
    "ssc",
]


def __dir__() -> list[str]:
    return __all__
