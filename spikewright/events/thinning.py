"""Random changes of single events: some are left out, or move in time."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator

from spikewright._util.ranges import check_counts, check_within
from spikewright.events.augmentation import OfEvents, draw_share, draw_whole
from spikewright.events.recording import Events


@dataclass(frozen=True)
class DropRandomly(OfEvents):
    """Leave out each event with one probability, drawn for the recording.

    Args:
        most: Largest probability, in [0, 1]; all from 0 to it are as probable.  Default: 0.9.

    Raises:
        ConfigError: `most` is out of its range.
    """

    most: float = 0.9

    def __post_init__(self) -> None:
        check_within("DropRandomly", "most", self.most, "[0, 1]", "it is a share of the events")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        share = self.most * draw_share(generator)
        return events.at(torch.rand(len(events), generator=generator, dtype=torch.float64).numpy() >= share)


@dataclass(frozen=True)
class DropTime(OfEvents):
    """Leave out the events of a span of time at a random place inside the recording.

    Args:
        most: Largest share of the duration, in [0, 1]; all from 0 to it are as probable.  Default: 0.9.

    Raises:
        ConfigError: `most` is out of its range.
    """

    most: float = 0.9

    def __post_init__(self) -> None:
        check_within("DropTime", "most", self.most, "[0, 1]", "it is a share of the duration")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        share, place = self.most * draw_share(generator), draw_share(generator)
        if not len(events):
            return events
        span = int(share * events.duration)
        first = int(events.t.min()) + int(place * (events.duration - span + 1))
        return events.at((events.t < first) | (events.t >= first + span))


@dataclass(frozen=True)
class DropArea(OfEvents):
    """Leave out the events of a box at a random place on the sensor.

    Args:
        most: Largest share of height, and of width, in [0, 1]; all from 0 to it are as probable, one share for both
            sides.  Default: 0.3.

    Raises:
        ConfigError: `most` is out of its range.
    """

    most: float = 0.3

    def __post_init__(self) -> None:
        check_within("DropArea", "most", self.most, "[0, 1]", "it is a share of the sides")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        share = self.most * draw_share(generator)
        tall, wide = int(share * events.height), int(share * events.width)
        top, left = draw_whole(0, events.height - tall, generator), draw_whole(0, events.width - wide, generator)
        rows, columns = (events.y >= top) & (events.y < top + tall), (events.x >= left) & (events.x < left + wide)
        return events.at(~(rows & columns))


@dataclass(frozen=True)
class ShiftTime(OfEvents):
    """Move all events later by one random time.

    Frames that begin at the first event do not change by it: use it with a `start` of "zero" or of a time.

    Args:
        microseconds: Longest time, at least 0; each whole number from 0 to it is as probable.

    Raises:
        ConfigError: `microseconds` is out of its range.
    """

    microseconds: int

    def __post_init__(self) -> None:
        check_counts("ShiftTime", least=0, most=2**62, microseconds=self.microseconds)

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        return replace(events, t=events.t + draw_whole(0, self.microseconds, generator))


@dataclass(frozen=True)
class JitterTime(OfEvents):
    """Move each event by a random time of its own, normally distributed, and sort them.

    Times are rounded to microseconds; those that would be before 0 become 0.

    Args:
        std: Standard deviation in microseconds, a number of at least 0.

    Raises:
        ConfigError: `std` is out of its range.
    """

    std: float

    def __post_init__(self) -> None:
        check_within("JitterTime", "std", self.std, "[0, inf)", "it is a standard deviation in microseconds")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        way = self.std * torch.randn(len(events), generator=generator, dtype=torch.float64).numpy()
        return replace(events, t=np.maximum(0, events.t + np.rint(way).astype(np.int64))).sorted()
