"""Augmentations of published results on event data, by name."""

from spikewright._util.ranges import check_known
from spikewright.events.augmentation import Augmentation, Chain, OneOf
from spikewright.events.geometry import Crop, Flip, Roll, Rotate, Shear
from spikewright.events.thinning import DropArea, DropRandomly, DropTime

EVENT_AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Chain(()),
    "event-drop": OneOf((Chain(()), DropTime(0.9), DropArea(0.3), DropRandomly(0.9))),
    "flip-roll": Chain((Flip(0.5), Roll(5))),
    "nda-cifar10-dvs": OneOf((Roll(5), Rotate(30.0), Shear(30.0))),
    "nda-n-caltech101": OneOf((Roll(3), Rotate(15.0), Shear(15.0))),
    "ottt-cifar10-dvs": Crop(4),
}
"""See `event_augmentation`."""


def event_augmentation(name: str) -> Augmentation:
    """Return an augmentation of a published result.

    | name | what | for | after | differs |
    |---|---|---|---|---|
    | "none" | nothing | SLTT on CIFAR10-DVS and DVS-Gesture, OTTT on DVS-Gesture | Meng et al., ICCV 2023, and Xiao et al., NeurIPS 2022: the training scripts of their authors | - |
    | "event-drop" | one of: nothing, a span of time, a box, random events left out | N-Caltech101, N-Cars | Gu et al., EventDrop, IJCAI 2021 | shares are drawn from all numbers up to the largest, not from a list of tenths; the paper's text was not at hand |
    | "flip-roll" | mirror at 1/2, then roll by up to 5 pixels, at 48 x 48 | CIFAR10-DVS | loaders of CIFAR10-DVS that accompany TET, Deng et al., ICLR 2022, as others have published them; the authors' own was not at hand | frames are scaled down by adding counts, theirs by interpolation |
    | "nda-cifar10-dvs" | one of: roll by up to 5 pixels, rotate or shear by up to 30 degrees, at 48 x 48 | CIFAR10-DVS | Li et al., NDA, ECCV 2022: the data loader of its authors | as above; its CutMix is not part of it |
    | "nda-n-caltech101" | the same with 3 pixels and 15 degrees | N-Caltech101 | the same | as above |
    | "ottt-cifar10-dvs" | crop after padding by 4, at 48 x 48, one crop for all frames | CIFAR10-DVS | Xiao et al., OTTT, NeurIPS 2022: the training script of its authors | as above; they also normalise by channel |

    Those at 48 x 48 are for frames of that size, such as `ByBins(10, by="number", size=(48, 48))`.  "event-drop" is for
    events, the others are for both.

    Args:
        name: "none", "event-drop", "flip-roll", "nda-cifar10-dvs", "nda-n-caltech101" or "ottt-cifar10-dvs".

    Raises:
        ConfigError: The name is unknown.

    >>> from spikewright.events import event_augmentation
    >>> event_augmentation("ottt-cifar10-dvs")
    Crop(pixels=4)
    """  # noqa: E501
    check_known("The augmentation of events", name, EVENT_AUGMENTATIONS)
    return EVENT_AUGMENTATIONS[name]
