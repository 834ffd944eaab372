"""Random changes of place: mirror, roll, crop, rotate, shear, and a box cut out; on events and on frames alike."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from spikewright._util.ranges import MOST, check_counts, check_within
from spikewright.events.augmentation import Augmentation, draw_share, draw_whole
from spikewright.events.recording import Events


@dataclass(frozen=True)
class Flip(Augmentation):
    """Mirror left to right with a probability; polarities stay.

    Args:
        p: Probability, in [0, 1].  Default: 0.5.

    Raises:
        ConfigError: `p` is out of its range.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        check_within("Flip", "p", self.p, "[0, 1]", "it is a probability")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        return replace(events, x=events.width - 1 - events.x) if draw_share(generator) < self.p else events

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        return frames.flip(-1) if draw_share(generator) < self.p else frames


@dataclass(frozen=True)
class Roll(Augmentation):
    """Move by up to some pixels down or up and right or left; what leaves at an edge comes in at the opposite one.

    Args:
        pixels: Most pixels along each axis, at least 0; each whole number from -pixels to pixels is as probable.

    Raises:
        ConfigError: `pixels` is out of its range.
    """

    pixels: int

    def __post_init__(self) -> None:
        check_counts("Roll", least=0, most=MOST, pixels=self.pixels)

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        down, right = (draw_whole(-self.pixels, self.pixels, generator) for _ in range(2))
        return replace(events, y=(events.y + down) % events.height, x=(events.x + right) % events.width)

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        down, right = (draw_whole(-self.pixels, self.pixels, generator) for _ in range(2))
        return frames.roll((down, right), (-2, -1))


@dataclass(frozen=True)
class Crop(Augmentation):
    """Move by up to some pixels down or up and right or left; what leaves is lost, and nothing comes in.

    The same as a random crop of the size of the frames out of frames padded with zeros.

    Args:
        pixels: Most pixels along each axis, at least 0; each whole number from -pixels to pixels is as probable.

    Raises:
        ConfigError: `pixels` is out of its range.
    """

    pixels: int

    def __post_init__(self) -> None:
        check_counts("Crop", least=0, most=MOST, pixels=self.pixels)

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        down, right = (draw_whole(-self.pixels, self.pixels, generator) for _ in range(2))
        return _placed(events, events.y + down, events.x + right)

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        down, right = (draw_whole(-self.pixels, self.pixels, generator) for _ in range(2))
        return functional.pad(frames, (right, -right, down, -down))


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Empty a square of random side around a random pixel, in all frames; the part of it that is outside is ignored.

    Args:
        side: Largest side in pixels, at least 1; each whole number from 1 to side is as probable.

    Raises:
        ConfigError: `side` is out of its range.
    """

    side: int

    def __post_init__(self) -> None:
        check_counts("Cutout", most=MOST, side=self.side)

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        top, left, side = self._box(events.height, events.width, generator)
        rows, columns = (events.y >= top) & (events.y < top + side), (events.x >= left) & (events.x < left + side)
        return events.at(~(rows & columns))

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        top, left, side = self._box(frames.shape[-2], frames.shape[-1], generator)
        frames = frames.clone()
        frames[..., max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        return frames

    def _box(self, height: int, width: int, generator: Generator) -> tuple[int, int, int]:
        side = draw_whole(1, self.side, generator)
        y, x = draw_whole(0, height - 1, generator), draw_whole(0, width - 1, generator)
        return y - side // 2, x - side // 2, side


class Linear(Augmentation):
    """A linear map about the middle; not used itself.

    Frames take each pixel from the one that the map brings nearest to it; events go to the pixel nearest to where the
    map brings them, so that several may meet in one, or none.
    """

    @abstractmethod
    def matrix(self, generator: Generator) -> "np.ndarray[Any, Any]":
        """Return the map of (right, down), drawn, float64 `[2, 2]`.

        Args:
            generator: `torch.Generator` on the CPU.
        """

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed; those that leave the sensor are lost.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        middle = np.array([[events.width - 1], [events.height - 1]]) / 2
        x, y = np.floor(self.matrix(generator) @ (np.stack([events.x, events.y]) - middle) + middle + 0.5)
        return _placed(events, y, x)

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed; what comes in is 0.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        height, width = frames.shape[-2:]
        middle = np.array([[width - 1], [height - 1]]) / 2
        y, x = np.divmod(np.arange(height * width), width)
        back = np.linalg.inv(self.matrix(generator))
        x, y = np.floor(back @ (np.stack([x, y]) - middle) + middle + 0.5).astype(np.int64)
        inside = torch.from_numpy((x >= 0) & (x < width) & (y >= 0) & (y < height))
        source = torch.from_numpy(y * width + x)[inside]
        made = torch.zeros_like(frames).flatten(2)
        made[:, :, inside] = frames.flatten(2)[:, :, source]
        return made.view_as(frames)


@dataclass(frozen=True)
class Rotate(Linear):
    """Rotate about the middle by a random angle, to the nearest pixel.

    Args:
        degrees: Largest angle either way, in [0, 180]; all angles up to it are as probable.

    Raises:
        ConfigError: `degrees` is out of its range.
    """

    degrees: float

    def __post_init__(self) -> None:
        check_within("Rotate", "degrees", self.degrees, "[0, 180]", "it is an angle either way")

    def matrix(self, generator: Generator) -> "np.ndarray[Any, Any]":
        """Return the map of (right, down), drawn, float64 `[2, 2]`.

        Args:
            generator: `torch.Generator` on the CPU.
        """
        angle = math.radians(self.degrees) * (2 * draw_share(generator) - 1)
        cos, sin = math.cos(angle), math.sin(angle)
        return np.array([[cos, -sin], [sin, cos]])


@dataclass(frozen=True)
class Shear(Linear):
    """Move rows sideways by their distance from the middle times the tangent of a random angle, to the nearest pixel.

    Args:
        degrees: Largest angle either way, in [0, 90); all angles up to it are as probable.

    Raises:
        ConfigError: `degrees` is out of its range.
    """

    degrees: float

    def __post_init__(self) -> None:
        check_within("Shear", "degrees", self.degrees, "[0, 90)", "it is an angle either way")

    def matrix(self, generator: Generator) -> "np.ndarray[Any, Any]":
        """Return the map of (right, down), drawn, float64 `[2, 2]`.

        Args:
            generator: `torch.Generator` on the CPU.
        """
        return np.array([[1.0, math.tan(math.radians(self.degrees) * (2 * draw_share(generator) - 1))], [0.0, 1.0]])


def _placed(events: Events, y: "np.ndarray[Any, Any]", x: "np.ndarray[Any, Any]") -> Events:
    """Return events at other places, without those that have left the sensor."""
    inside = (y >= 0) & (y < events.height) & (x >= 0) & (x < events.width)
    return replace(events.at(inside), y=y[inside].astype(np.int32), x=x[inside].astype(np.int32))
