"""Event streams: readers of the usual files, and frames made of events."""

from spikewright.events.augmentation import Augmentation as Augmentation
from spikewright.events.augmentation import Chain as Chain
from spikewright.events.augmentation import OneOf as OneOf
from spikewright.events.augmentation import augmented as augmented
from spikewright.events.cache import cached as cached
from spikewright.events.collect import framed as framed
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
    "Roll",
    "Rotate",
    "Shear",
    "ShiftTime",
    "TimeSurface",
    "VoxelGrid",
    "augmented",
    "cached",
    "event_augmentation",
    "framed",
    "mixup",
    "saccade_digits",
    "saccades",
]


def __dir__() -> list[str]:
    return __all__
