"""Frames that count events: by time, by windows of a duration, by number of events."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_choice, check_counts, check_row
from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.events.recording import Events
from spikewright.events.sparse import Array, Entries, narrow, total
from spikewright.events.windows import (
    Last,
    Start,
    check_last,
    check_start,
    cuts_of_bins,
    cuts_of_count,
    cuts_of_duration,
    origin,
)

Polarity = Literal["both", "merged", "signed"]


class Frames(ABC):
    """What makes a sequence of frames from the events of a recording.

    Events that are out of order are sorted by time first; those of one time keep their order.
    """

    @abstractmethod
    def feature(self, events: Events) -> tuple[int, int, int]:
        """Return the shape of a frame: channels, height, width.

        Args:
            events: Events of one recording; only its sensor matters.
        """

    @abstractmethod
    def entries(self, events: Events) -> Entries:
        """Return the frames of a recording, sparse.

        Args:
            events: Events of one recording, in any order.

        Returns:
            The number of steps, at least 1; places int64 `[entries]`, rising, each
            `((step * channels + channel) * height + y) * width + x`; and the numbers there, none of them 0.
        """

    def dense(self, events: Events) -> Tensor:
        """Return the frames of a recording, float32 `[steps, channels, height, width]`.

        Args:
            events: Events of one recording, in any order.
        """
        steps, places, values = self.entries(events)
        frames = torch.zeros(steps, *self.feature(events))
        frames.view(-1)[torch.from_numpy(places)] = torch.from_numpy(values.astype(np.float32))
        return frames


@dataclass(frozen=True, kw_only=True)
class CountFrames(Frames):
    """Settings of all frames that count events; not used itself."""

    size: tuple[int, int] | None = None
    polarity: Polarity = "both"
    clip: int | None = None
    start: Start = "first"

    def __post_init__(self) -> None:
        owner = type(self).__name__
        if self.size is not None:
            check_row(owner, "size", self.size, "(48, 48)")
            if len(self.size) != 2:
                raise ConfigError(f"{owner}(size={self.size!r}): size is (height, width). Give two numbers.")
            check_counts(owner, most=MOST, height=self.size[0], width=self.size[1])
            object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        check_choice(owner, "polarity", self.polarity, ("both", "merged", "signed"))
        check_counts(owner, optional=True, clip=self.clip)
        check_start(owner, self.start)

    def feature(self, events: Events) -> tuple[int, int, int]:
        """Return the shape of a frame: channels, height, width.

        Args:
            events: Events of one recording; only its sensor matters.

        Raises:
            ShapeError: `size` is larger than the sensor.
            InputError: Signed counts are asked of a sensor of one polarity.
        """
        owner, (height, width) = type(self).__name__, self.size or (events.height, events.width)
        if height > events.height or width > events.width:
            raise ShapeError(
                f"{owner}(size={self.size}) got a sensor of {events.height} x {events.width}. Counts are added where "
                "pixels fall together; what lies between pixels was not recorded. Give a size of at most that."
            )
        if self.polarity == "signed" and events.polarities == 1:
            raise InputError(
                f"{owner}(polarity='signed') got a sensor of one polarity, whose events all say 0: each would count "
                "-1. Take polarity='both' or 'merged'."
            )
        return (events.polarities if self.polarity == "both" else 1), height, width

    def cells(self, events: Events) -> Array:
        """Return the position of each event in a frame, int64 `[n]`.

        Args:
            events: Events of one recording.
        """
        _, height, width = self.feature(events)
        y, x = events.y.astype(np.int64), events.x.astype(np.int64)
        if (height, width) != (events.height, events.width):
            y, x = y * height // events.height, x * width // events.width
        if self.polarity == "both" and events.polarities > 1:
            y += events.p * np.int64(height)
        return y * width + x

    @abstractmethod
    def cuts(self, events: Events) -> tuple[Array, Array]:
        """Return where each window begins among events in order, and the end of the last; and when each window ends.

        Args:
            events: At least one, in the order of time.

        Returns:
            int64 `[steps + 1]`, and the last microsecond of each window, int64 `[steps]`.
        """

    @property
    def empty_steps(self) -> int:
        """Number of frames, all of zeros, of a recording without events."""
        return 1

    def entries(self, events: Events) -> Entries:
        """Return the frames of a recording, sparse.

        Args:
            events: Events of one recording, in any order.

        Returns:
            The number of steps, at least 1; places int64 `[entries]`, rising, each
            `((step * channels + channel) * height + y) * width + x`; and the counts there: uint8, int16 or float32,
            the first of these that holds all.

        Raises:
            ShapeError: `size` is larger than the sensor.
            InputError: Events are before `start`, all would be dropped, or steps or counts are too large.
        """
        size = int(np.prod(self.feature(events)))
        if not len(events):
            return self.empty_steps, np.zeros(0, np.int64), np.zeros(0, np.uint8)
        events = events.sorted()
        cuts, _ = self.cuts(events)
        steps = len(cuts) - 1
        places = np.repeat(np.arange(steps, dtype=np.int64) * size, np.diff(cuts))
        places += self.cells(events)[: cuts[-1]]
        sign = 2 * events.p[: cuts[-1]].astype(np.int64) - 1 if self.polarity == "signed" else None
        found, counts = total(places, steps * size, sign)
        if self.clip is not None:
            counts = np.clip(counts, -self.clip, self.clip)
        return steps, found, narrow(type(self).__name__, counts)


@dataclass(frozen=True)
class ByBins(CountFrames):
    r"""A fixed number of frames of equal duration, or of equally many events. Every event is in exactly one.

    By time, with the first window beginning at :math:`a` and the last event at :math:`b`, an event at :math:`t` is in
    frame

    .. math:: k = \min\left(\left\lfloor (t - a)\, B / (b - a) \right\rfloor,\, B - 1\right),

    computed in whole numbers: windows are half-open but the last, which holds :math:`b` too.  These are the windows of
    `numpy.histogram`.  Where all events have one time, they are in the first frame.  By number, event i of n, from 0 in
    the order of time, is in frame :math:`\lfloor i B / n \rfloor`: numbers of events differ by one at most.

    A recording without events has `bins` frames of zeros.  There is no partial window.

    Args:
        bins: Number of frames B, from 1 to 10**6.
        by: "time" or "number".  Default: "time".
        size: Height and width to which coordinates are scaled down, y to floor(y * height / sensor height), x alike;
            counts add.  Both at least 1 and at most those of the sensor.  Default: None, the sensor's.
        polarity: "both" is a channel for each polarity, falling first, or one channel for a sensor of one polarity;
            "merged" one channel that counts all; "signed" one channel of rising minus falling.  Default: "both".
        clip: Largest count that is kept, at least 1; larger ones become it, signed ones on both sides.  1 gives binary
            frames.  Default: None, no limit.
        start: When the first window begins: "first" is the first event, "zero" is 0, and a whole number of at least 0
            is that time in microseconds.  Matters by time only.  Default: "first".

    Raises:
        ConfigError: A setting is unknown or out of its range.

    >>> import numpy as np
    >>> from spikewright.events import ByBins, Events
    >>> t, x, y, p = np.array([[0, 4, 9, 10], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1]])
    >>> ByBins(2).dense(Events(t, x, y, p, height=1, width=2)).flatten(1)
    tensor([[0., 1., 1., 0.],
            [0., 0., 1., 1.]])
    """

    bins: int
    by: Literal["time", "number"] = "time"

    def __post_init__(self) -> None:
        check_counts("ByBins", most=MOST, bins=self.bins)
        check_choice("ByBins", "by", self.by, ("time", "number"))
        super().__post_init__()

    @property
    def empty_steps(self) -> int:
        """Number of frames, all of zeros, of a recording without events."""
        return self.bins

    def cuts(self, events: Events) -> tuple[Array, Array]:
        """Return where each window begins among events in order, and the end of the last; and when each window ends.

        Args:
            events: At least one, in the order of time.

        Returns:
            int64 `[steps + 1]`, and the last microsecond of each window, int64 `[steps]`.
        """
        if self.by == "time":
            return cuts_of_bins(events.t, origin("ByBins", events, self.start), self.bins)
        bounds = np.array([-(-k * len(events) // self.bins) for k in range(self.bins + 1)], dtype=np.int64)
        return bounds, events.t[np.maximum(bounds[1:] - 1, 0)]


@dataclass(frozen=True)
class ByDuration(CountFrames):
    """Frames of a fixed duration, as many as the recording needs. Every event is in exactly one, or dropped by name.

    With the first window beginning at a, frame k holds the times from a + k d up to a + (k + 1) d, that one excluded.
    The last window is partial unless an event is in its last microsecond.  A recording without events has one frame of
    zeros.

    Args:
        microseconds: Duration d of a frame, at least 1.
        last: What becomes of a partial last window: "keep" makes it a frame, "drop" leaves it out with its events.
            Default: "keep".
        size: Height and width to which coordinates are scaled down, y to floor(y * height / sensor height), x alike;
            counts add.  Both at least 1 and at most those of the sensor.  Default: None, the sensor's.
        polarity: "both" is a channel for each polarity, falling first, or one channel for a sensor of one polarity;
            "merged" one channel that counts all; "signed" one channel of rising minus falling.  Default: "both".
        clip: Largest count that is kept, at least 1; larger ones become it, signed ones on both sides.  1 gives binary
            frames.  Default: None, no limit.
        start: When the first window begins: "first" is the first event, "zero" is 0, and a whole number of at least 0
            is that time in microseconds.  Default: "first".

    Raises:
        ConfigError: A setting is unknown or out of its range.

    >>> import numpy as np
    >>> from spikewright.events import ByDuration, Events
    >>> events = Events(*np.array([[0, 999, 1000, 2500], [0] * 4, [0] * 4, [1] * 4]), height=1, width=1)
    >>> ByDuration(1000).dense(events)[:, 1].flatten(), ByDuration(1000, last="drop").dense(events)[:, 1].flatten()
    (tensor([2., 1., 1.]), tensor([2., 1.]))
    """

    microseconds: int
    last: Last = "keep"

    def __post_init__(self) -> None:
        check_counts("ByDuration", most=2**62, microseconds=self.microseconds)
        check_last("ByDuration", self.last)
        super().__post_init__()

    def cuts(self, events: Events) -> tuple[Array, Array]:
        """Return where each window begins among events in order, and the end of the last; and when each window ends.

        Args:
            events: At least one, in the order of time.

        Returns:
            int64 `[steps + 1]`, and the last microsecond of each window, int64 `[steps]`.
        """
        first = origin("ByDuration", events, self.start)
        return cuts_of_duration("ByDuration", events.t, first, self.microseconds, self.last)


@dataclass(frozen=True)
class ByCount(CountFrames):
    """Frames of a fixed number of events, in the order of time. Every event is in exactly one, or dropped by name.

    The last frame is partial unless the number of events is a multiple.  A recording without events has one frame of
    zeros.

    Args:
        events: Number of events of a frame, at least 1.
        last: What becomes of a partial last frame: "keep" makes it a frame, "drop" leaves its events out.
            Default: "keep".
        size: Height and width to which coordinates are scaled down, y to floor(y * height / sensor height), x alike;
            counts add.  Both at least 1 and at most those of the sensor.  Default: None, the sensor's.
        polarity: "both" is a channel for each polarity, falling first, or one channel for a sensor of one polarity;
            "merged" one channel that counts all; "signed" one channel of rising minus falling.  Default: "both".
        clip: Largest count that is kept, at least 1; larger ones become it, signed ones on both sides.  1 gives binary
            frames.  Default: None, no limit.
        start: "first"; "zero", or a time of at least 0, is refused, as frames of a number of events begin at the first.
            Default: "first".

    Raises:
        ConfigError: A setting is unknown or out of its range.

    >>> import numpy as np
    >>> from spikewright.events import ByCount, Events
    >>> events = Events(*np.array([[0, 1, 2, 3, 4], [0] * 5, [0] * 5, [1] * 5]), height=1, width=1)
    >>> ByCount(2).dense(events)[:, 1].flatten(), ByCount(2, last="drop").dense(events)[:, 1].flatten()
    (tensor([2., 2., 1.]), tensor([2., 2.]))
    """

    events: int
    last: Last = "keep"

    def __post_init__(self) -> None:
        check_counts("ByCount", events=self.events)
        check_last("ByCount", self.last)
        super().__post_init__()
        if self.start != "first":
            raise ConfigError(
                f"ByCount(start={self.start!r}): frames of {self.events} events begin at the first event, whenever "
                "that is. Leave start out, or take ByDuration or ByBins."
            )

    def cuts(self, events: Events) -> tuple[Array, Array]:
        """Return where each window begins among events in order, and the end of the last; and when each window ends.

        Args:
            events: At least one, in the order of time.

        Returns:
            int64 `[steps + 1]`, and the last microsecond of each window, int64 `[steps]`.
        """
        bounds = cuts_of_count("ByCount", len(events), self.events, self.last)
        return bounds, events.t[bounds[1:] - 1]
