"""Events made from images that move before a simulated sensor; generated, not recorded."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import Tensor

from spikewright._util.ranges import check_choice, check_counts, check_seed, check_within
from spikewright.data.dataset import Split
from spikewright.data.digits import digits
from spikewright.errors import InputError, ShapeError
from spikewright.events.recording import Events

Array = np.ndarray[Any, Any]
_DARK = 0.1
"""Added to an intensity of 0 to 1 before its logarithm, as stray light: black is no infinity."""
_TOGETHER = 64
"""Images that are moved at once."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """Recordings in memory, with their labels. `len(recordings)` is their number; `recordings[i]` is one and its label.

    Args:
        recordings: `Events` of each, at least one.
        labels: Class of each, a whole number of at least 0.

    Raises:
        InputError: There is no recording, or not one label for each.

    >>> from spikewright.events import InMemory, saccade_digits
    >>> some = saccade_digits("test").recordings[:3]
    >>> len(InMemory(some, (0, 1, 2)))
    3
    """

    recordings: tuple[Events, ...] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.recordings or len(self.recordings) != len(self.labels) or min(self.labels) < 0:
            raise InputError(
                f"InMemory got {len(self.recordings)} recordings and {len(self.labels)} labels. There is at least one "
                "recording, and one label of at least 0 for each. Give as many."
            )

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Events, int]:
        return self.recordings[index], int(self.labels[index])

    def __iter__(self) -> Iterator[tuple[Events, int]]:
        return (self[index] for index in range(len(self)))

    @property
    def digest(self) -> str:
        """Text that depends on all events, sensors and labels, and on their order."""
        found = hashlib.blake2b(digest_size=16)
        for events, label in self:
            found.update(f"{len(events)} {events.height} {events.width} {events.polarities} {label} ".encode())
            for array in (events.t, events.x, events.y, events.p):
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def saccades(
    images: Tensor,
    labels: Tensor,
    *,
    scale: int = 2,
    travel: float = 2.0,
    duration: int = 100_000,
    step: int = 2000,
    threshold: float = 0.25,
    mismatch: float = 0.03,
    seed: int = 0,
) -> InMemory:
    r"""Return the events that a sensor would see of images that move along three saccades.

    The idea is that of N-MNIST, whose sensor moved before a screen; these events are computed.  The image, enlarged and
    on a black ground, moves on straight lines along the sides of a triangle and back to its start.  A pixel compares
    the logarithm of its brightness, :math:`L = \log(I + 0.1)`, with the level of its last event, and emits one event
    for each threshold that it is away from it, which moves the level: rising with polarity 1, falling with 0.  The
    first level is the brightness at the start, moved by up to half a threshold.  Brightness is computed every `step`
    microseconds by bilinear interpolation, and crossings in between are placed by a straight line.  Thresholds and
    first levels differ between pixels and are those of the sensor, the same for all images.  There is no noise of other
    kinds, no refractory time and no limit of the readout.

    Args:
        images: uint8 (0 to 255) or floating-point (0 to 1), one channel, at least one.  Shape `[n, 1, H, W]`.
        labels: Classes, int64 `[n]`.
        scale: Pixels of the sensor for a pixel of the image, from 1 to 64.  Default: 2.
        travel: Height and base of the triangle in pixels of the sensor, a number in (0, 64].  Default: 2.0.
        duration: Microseconds of one saccade, from 1 to 10**9; a multiple of `step`.  Default: 100_000.
        step: Microseconds between two computed images, from 1 to 10**9.  Default: 2000.
        threshold: Change of the logarithm that makes an event, a number > 0.  Default: 0.25.
        mismatch: Standard deviation of the thresholds over pixels, as a share of `threshold`, in [0, 1); none is below
            half of it.  Default: 0.03.
        seed: Seed of thresholds and first levels, from 0 to 2**63 - 1.  Default: 0.

    Returns:
        Recordings of a sensor of height scale * H + 2 * margin, width alike, with a margin of ceil(travel / 2) + 1.

    Raises:
        ConfigError: A setting is out of its range.
        ShapeError: Images or labels have another shape or type.

    Reference:
        Orchard et al., Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades, Frontiers in
        Neuroscience 2015.

    >>> import torch
    >>> from spikewright.events import saccades
    >>> events, label = saccades(torch.eye(4)[None, None], torch.tensor([7]))[0]
    >>> label, events.height, events.in_order, 0 < len(events), events.duration <= 300_000
    (7, 12, True, True, True)
    """
    check_counts("saccades", most=64, scale=scale)
    check_counts("saccades", most=10**9, duration=duration, step=step)
    check_within("saccades", "travel", travel, "(0, 64]", "it is a way in pixels")
    check_within("saccades", "threshold", threshold, "(0, inf)", "it is a change of brightness")
    check_within("saccades", "mismatch", mismatch, "[0, 1)", "it is a share of the threshold")
    check_seed("saccades", seed)
    split = Split(images, labels)
    if split.images.shape[1] != 1 or len(split) == 0:
        raise ShapeError(
            f"saccades got images {list(images.shape)}. A pixel of the sensor sees one brightness. Give grey images "
            "[n, 1, H, W], at least one, such as images.float().mean(1, keepdim=True) / 255 of colour ones."
        )
    if duration % step:
        raise InputError(
            f"saccades(duration={duration}, step={step}): a saccade is no whole number of steps. Give a step that "
            "divides the duration."
        )
    light = split.images[:, 0].numpy().astype(np.float64) / (255 if images.dtype.is_floating_point is False else 1)
    margin = int(np.ceil(travel / 2)) + 1
    large = np.pad(light.repeat(scale, 1).repeat(scale, 2), ((0, 0), (margin, margin), (margin, margin)))
    draw = np.random.default_rng(seed)
    thresholds = threshold * np.maximum(0.5, 1 + mismatch * draw.standard_normal(large.shape[1:]))
    # Without this, a pixel that comes back to its first brightness would end on a threshold, and rounding would decide.
    ahead = thresholds * (draw.random(large.shape[1:]) - 0.5)
    way = _triangle(travel, duration // step)
    found = list[Events]()
    for first in range(0, len(large), _TOGETHER):
        found.extend(_seen(large[first : first + _TOGETHER], way, thresholds, ahead, step))
    return InMemory(tuple(found), tuple(split.labels.tolist()))


def saccade_digits(
    part: Literal["train", "test"] = "train", test_fraction: float = 0.2, seed: int = 0, **settings: Any
) -> InMemory:
    """Return generated events of the 1,797 handwritten digits of scikit-learn, moved along three saccades.

    A sensor of 20 x 20 pixels, 300 ms a recording, 10 classes; nothing is downloaded.  It stands for a recorded data
    set in examples and tests; results on it are results on generated events.

    Args:
        part: "train" or "test".  Default: "train".
        test_fraction: Fraction of every class in the test part, in (0, 1).  Default: 0.2.
        seed: Seed of the division and of the thresholds of the sensor, from 0 to 2**63 - 1.  Default: 0.
        **settings: Further settings of `saccades`.

    Raises:
        ImportError: scikit-learn is not installed.
        ConfigError: A setting is out of its range.

    >>> from spikewright.events import saccade_digits
    >>> data = saccade_digits("test")
    >>> len(data), data[0][0].height
    (359, 20)
    """
    check_choice("saccade_digits", "part", part, ("train", "test"))
    data = digits(test_fraction, seed)
    split = data.train if part == "train" else data.test
    return saccades(split.images, split.labels, seed=seed, **settings)


def _triangle(travel: float, steps: int) -> Array:
    """Return where the image is at each step, (down, right) in pixels `[3 * steps + 1, 2]`: around a triangle."""
    half = travel / 2
    corners = np.array([[-half, 0.0], [half, half], [half, -half], [-half, 0.0]])
    share = np.arange(steps)[:, None] / steps
    sides = [(1 - share) * begin + share * end for begin, end in pairwise(corners)]
    return np.concatenate([*sides, corners[-1:]])


def _moved(light: Array, down: float, right: float) -> Array:
    """Return images `[n, H, W]` moved by a part of a pixel, interpolated; what comes in is black."""
    for axis, way in ((1, down), (2, right)):
        whole, part = int(np.floor(way)), way - np.floor(way)
        light = (1 - part) * np.roll(light, whole, axis) + part * np.roll(light, whole + 1, axis)
    return light  # the margin is wider than the way, so that what is rolled over the edge is black


def _seen(light: Array, way: Array, thresholds: Array, ahead: Array, step: int) -> list[Events]:
    """Return the events of each of some images, in the order of time."""
    before = np.log(_moved(light, *way[0]) + _DARK)
    level, found = before + ahead, list[Array]()
    for number, place in enumerate(way[1:]):
        now = np.log(_moved(light, *place) + _DARK)
        crossed = np.trunc((now - level) / thresholds)
        most = int(np.abs(crossed).max())
        for count in range(1, most + 1):
            image, y, x = np.nonzero(np.abs(crossed) >= count)
            rise, here = np.sign(crossed[image, y, x]), (image, y, x)
            share = (level[here] + rise * count * thresholds[y, x] - before[here]) / (now[here] - before[here])
            time = number * step + np.clip(np.floor(share * step), 0, step - 1)
            found.append(np.stack([time, x, y, rise > 0, image]).astype(np.int64))
        level += crossed * thresholds
        before = now
    t, x, y, p, image = np.concatenate([*found, np.zeros((5, 0), np.int64)], axis=1)
    order = np.lexsort((t, image))
    bounds = np.searchsorted(image[order], np.arange(len(light) + 1))
    height, width = thresholds.shape
    chosen = [order[bounds[number] : bounds[number + 1]] for number in range(len(light))]
    return [Events(t[own], x[own], y[own], p[own], height, width) for own in chosen]
