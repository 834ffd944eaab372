"""Event streams: readers of the usual files, and frames made of events."""

from spikewright.events.augmentation import Augmentation as Augmentation
from spikewright.events.augmentation import Chain as Chain
from spikewright.events.augmentation import OneOf as OneOf
from spikewright.events.augmentation import augmented as augmented
from spikewright.events.cache import cached as cached
from spikewright.events.collect import framed as framed
from spikewright.events.datasets.cifar10_dvs import cifar10_dvs as cifar10_dvs
from spikewright.events.datasets.dvs_gesture import dvs_gesture as dvs_gesture
from spikewright.events.datasets.heidelberg import shd as shd
from spikewright.events.datasets.heidelberg import ssc as ssc
from spikewright.events.datasets.n_mnist import n_mnist as n_mnist
from spikewright.events.datasets.own import folder as folder
from spikewright.events.datasets.recordings import Recordings as Recordings
from spikewright.events.frames import ByBins as ByBins
from spikewright.events.frames import ByCount as ByCount
from spikewright.events.frames import ByDuration as ByDuration
from spikewright.events.frames import Frames as Frames
from spikewright.events.generated import InMemory as InMemory
from spikewright.events.generated import saccade_digits as saccade_digits
from spikewright.events.generated import saccades as saccades
from spikewright.events.geometry import Crop as Crop
from spikewright.events.geometry import Cutout as Cutout
from spikewright.events.geometry import Flip as Flip
from spikewright.events.geometry import Roll as Roll
from spikewright.events.geometry import Rotate as Rotate
from spikewright.events.geometry import Shear as Shear
from spikewright.events.mixing import mixup as mixup
from spikewright.events.readers.aedat2 import read_aedat2 as read_aedat2
from spikewright.events.readers.aedat3 import read_aedat3 as read_aedat3
from spikewright.events.readers.aedat4 import read_aedat4 as read_aedat4
from spikewright.events.readers.choose import read as read
from spikewright.events.readers.dat import read_dat as read_dat
from spikewright.events.readers.evt2 import read_evt2 as read_evt2
from spikewright.events.readers.evt3 import read_evt3 as read_evt3
from spikewright.events.readers.nmnist import read_nmnist as read_nmnist
from spikewright.events.readers.spikes import read_spikes as read_spikes
from spikewright.events.recipes import EVENT_AUGMENTATIONS as EVENT_AUGMENTATIONS
from spikewright.events.recipes import event_augmentation as event_augmentation
from spikewright.events.recording import Events as Events
from spikewright.events.surfaces import Decayed as Decayed
from spikewright.events.surfaces import TimeSurface as TimeSurface
from spikewright.events.surfaces import VoxelGrid as VoxelGrid
from spikewright.events.thinning import DropArea as DropArea
from spikewright.events.thinning import DropRandomly as DropRandomly
from spikewright.events.thinning import DropTime as DropTime
from spikewright.events.thinning import JitterTime as JitterTime
from spikewright.events.thinning import ShiftTime as ShiftTime

__all__ = [
    "EVENT_AUGMENTATIONS",
    "Augmentation",
    "ByBins",
    "ByCount",
    "ByDuration",
    "Chain",
    "Crop",
    "Cutout",
    "Decayed",
    "DropArea",
    "DropRandomly",
    "DropTime",
    "Events",
    "Flip",
    "Frames",
    "InMemory",
    "JitterTime",
    "OneOf",
    "Recordings",
    "Roll",
    "Rotate",
    "Shear",
    "ShiftTime",
    "TimeSurface",
    "VoxelGrid",
    "augmented",
    "cached",
    "cifar10_dvs",
    "dvs_gesture",
    "event_augmentation",
    "folder",
    "framed",
    "mixup",
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
    "saccade_digits",
    "saccades",
    "shd",
    "ssc",
]


def __dir__() -> list[str]:
    return __all__
