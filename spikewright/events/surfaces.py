"""Frames of real numbers: voxel grids, time surfaces, and counts that decay."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from spikewright._util.ranges import MOST, check_counts, check_instance, check_within
from spikewright.errors import ConfigError, InputError
from spikewright.events.frames import ByBins, ByDuration, CountFrames, Frames
from spikewright.events.recording import Events
from spikewright.events.sparse import Array, Entries, total
from spikewright.events.windows import cuts_of_bins, origin


@dataclass(frozen=True)
class VoxelGrid(CountFrames):
    r"""Events shared out between the two nearest of B moments in time, signed by polarity.

    With the first moment at :math:`a` and the last event at :math:`b`, frame k is

    .. math:: V_k = \sum_i s_i \max(0,\, 1 - |k - (t_i - a)(B - 1) / (b - a)|),

    with :math:`s_i` +1 for a rising and -1 for a falling event.  The sum over frames is the signed number of events.
    Where all events have one time, they are in the first frame.  A recording without events has `bins` frames of
    zeros.  Numbers are float32; sums are made in float64.

    Args:
        bins: Number of frames B, from 1 to 10**6.
        size: Height and width to which coordinates are scaled down, y to floor(y * height / sensor height), x alike;
            values add.  Both at least 1 and at most those of the sensor.  Default: None, the sensor's.
        polarity: "signed" as above; "both" is a channel for each polarity, each event +1; "merged" one channel, each
            event +1.  Sensors of one polarity have no signed grid.  Default: "signed".
        clip: None; any number is refused, as a grid has no counts to limit.  Default: None.
        start: When the first moment is: "first" is the first event, "zero" is 0, and a whole number of at least 0 is
            that time in microseconds.  Default: "first".

    Raises:
        ConfigError: A setting is unknown or out of its range.

    Reference:
        Zhu et al., Unsupervised Event-Based Learning of Optical Flow, Depth, and Egomotion, CVPR 2019.

    >>> import numpy as np
    >>> from spikewright.events import Events, VoxelGrid
    >>> events = Events(*np.array([[0, 25, 100], [0] * 3, [0] * 3, [1, 0, 1]]), height=1, width=1)
    >>> VoxelGrid(3).dense(events).flatten()
    tensor([ 0.5000, -0.5000,  1.0000])
    """

    bins: int
    polarity: Literal["both", "merged", "signed"] = field(default="signed", kw_only=True)

    def __post_init__(self) -> None:
        check_counts("VoxelGrid", most=MOST, bins=self.bins)
        super().__post_init__()
        _no_clip("VoxelGrid", self.clip)

    @property
    def empty_steps(self) -> int:
        """Number of frames, all of zeros, of a recording without events."""
        return self.bins

    def cuts(self, events: Events) -> tuple[Array, Array]:
        """Return where the parts between moments begin among events in order; and when each ends.

        Args:
            events: At least one, in the order of time.

        Returns:
            int64 `[parts + 1]`, and the last microsecond of each part, int64 `[parts]`; there is one part at least.
        """
        return cuts_of_bins(events.t, origin("VoxelGrid", events, self.start), max(1, self.bins - 1))

    def entries(self, events: Events) -> Entries:
        """Return the frames of a recording, sparse.

        Args:
            events: Events of one recording, in any order.

        Returns:
            `bins`; places int64 `[entries]`, rising, each `((step * channels + channel) * height + y) * width + x`; and
            the numbers there, float32.

        Raises:
            ShapeError: `size` is larger than the sensor.
            InputError: Events are before `start`, or the sensor has one polarity and the grid is signed.
        """
        size = int(np.prod(self.feature(events)))
        if not len(events):
            return self.bins, np.zeros(0, np.int64), np.zeros(0, np.float32)
        events = events.sorted()
        first = origin("VoxelGrid", events, self.start)
        span, parts = int(events.t[-1]) - first, self.bins - 1
        if span * max(1, parts) >= 2**63:
            raise InputError(
                f"VoxelGrid(bins={self.bins}, start={self.start!r}) got a recording that ends {span} us after the "
                "first moment, which is too long for whole numbers of 64 bits. Take start='first', or fewer bins."
            )
        scaled = (events.t - first) * parts
        left = scaled // span if span else np.zeros(len(events), np.int64)
        share = (scaled - left * span) / max(1, span)
        sign = 2.0 * events.p - 1.0 if self.polarity == "signed" else np.ones(len(events))
        cells = self.cells(events)
        right = np.minimum(left + 1, parts)  # at the last moment the share is 0
        places = np.concatenate([left * size + cells, right * size + cells])
        found, sums = total(places, self.bins * size, np.concatenate([sign * (1.0 - share), sign * share]))
        return _single(self.bins, found, sums)


@dataclass(frozen=True)
class TimeSurface(Frames):
    r"""How recent the last event of each pixel is, at the end of each window.

    With :math:`e_k` the last microsecond of window k, and :math:`t_k(c)` the time of the last event of channel and
    pixel c up to then, in this window or an earlier one,

    .. math:: S_k(c) = \exp\left(-(e_k - t_k(c)) / \tau\right),

    and 0 without such an event.  An event in the last microsecond has 1.  Numbers below those of float32 are 0.

    Args:
        windows: `ByBins` by time, or `ByDuration`; it also says `size`, `start`, and whether polarities are "both" or
            "merged".  It has no clip.
        tau: Time constant in microseconds, a number > 0.

    Raises:
        ConfigError: A setting is unknown or out of its range.

    Reference:
        Lagorce et al., HOTS: A Hierarchy of Event-Based Time-Surfaces for Pattern Recognition, TPAMI 2017.

    >>> import numpy as np
    >>> from spikewright.events import ByDuration, Events, TimeSurface
    >>> events = Events(*np.array([[0, 999, 1999], [0, 1, 0], [0] * 3, [1, 1, 1]]), height=1, width=2)
    >>> TimeSurface(ByDuration(1000), tau=1000.0).dense(events)[:, 1, 0]
    tensor([[0.3682, 1.0000],
            [1.0000, 0.3679]])
    """

    windows: ByBins | ByDuration
    tau: float

    def __post_init__(self) -> None:
        if not isinstance(self.windows, ByBins):
            check_instance("TimeSurface", "windows", self.windows, ByDuration, "ByDuration(10_000) or ByBins(10)")
        check_within("TimeSurface", "tau", self.tau, "(0, inf)", "it is a time constant in microseconds")
        _no_clip("TimeSurface", self.windows.clip)
        if self.windows.polarity == "signed" or (isinstance(self.windows, ByBins) and self.windows.by != "time"):
            raise ConfigError(
                f"TimeSurface(windows={self.windows}) tells how long ago an event was, which has no sign, and needs "
                "windows of time. Take polarity='both' or 'merged', and by='time'."
            )

    def feature(self, events: Events) -> tuple[int, int, int]:
        """Return the shape of a frame: channels, height, width.

        Args:
            events: Events of one recording; only its sensor matters.
        """
        return self.windows.feature(events)

    def entries(self, events: Events) -> Entries:
        """Return the frames of a recording, sparse.

        Args:
            events: Events of one recording, in any order.

        Returns:
            The number of steps of the windows; places int64 `[entries]`, rising, each
            `((step * channels + channel) * height + y) * width + x`; and the numbers there, float32.

        Raises:
            ShapeError: `size` is larger than the sensor.
            InputError: Events are before `start`, all would be dropped, or there are too many steps.
        """
        size = int(np.prod(self.feature(events)))
        if not len(events):
            return self.windows.empty_steps, np.zeros(0, np.int64), np.zeros(0, np.float32)
        events = events.sorted()
        cuts, ends = self.windows.cuts(events)
        cells, latest = self.windows.cells(events), np.full(size, -1, np.int64)
        places, values = list[Array](), list[Array]()
        for step, end in enumerate(ends):
            inside = slice(cuts[step], cuts[step + 1])
            latest[cells[inside]] = events.t[inside]  # of several the last stays, which is the latest
            seen = np.flatnonzero(latest >= 0)
            places.append(step * size + seen)
            values.append(np.exp((latest[seen] - end) / self.tau))
        return _single(len(ends), np.concatenate(places), np.concatenate(values))


@dataclass(frozen=True)
class Decayed(Frames):
    r"""Counts of events that add up over the steps and decay from each to the next.

    With :math:`n_k` the counts of window k, of duration d,

    .. math:: a_k = e^{-d / \tau} a_{k-1} + n_k, \quad a_{-1} = 0.

    Sums are made in float64; numbers below those of float32 are 0.

    Args:
        windows: `ByDuration`; it also says `size`, `polarity`, `start`, and what becomes of a partial last window.
            It has no clip.
        tau: Time constant in microseconds, a number > 0.

    Raises:
        ConfigError: A setting is unknown or out of its range.

    >>> import numpy as np
    >>> from spikewright.events import ByDuration, Decayed, Events
    >>> events = Events(*np.array([[0, 10, 2000], [0] * 3, [0] * 3, [1, 1, 1]]), height=1, width=1)
    >>> Decayed(ByDuration(1000), tau=1000.0).dense(events)[:, 1].flatten()
    tensor([2.0000, 0.7358, 1.2707])
    """

    windows: ByDuration
    tau: float

    def __post_init__(self) -> None:
        check_instance("Decayed", "windows", self.windows, ByDuration, "ByDuration(10_000)")
        check_within("Decayed", "tau", self.tau, "(0, inf)", "it is a time constant in microseconds")
        _no_clip("Decayed", self.windows.clip)

    def feature(self, events: Events) -> tuple[int, int, int]:
        """Return the shape of a frame: channels, height, width.

        Args:
            events: Events of one recording; only its sensor matters.
        """
        return self.windows.feature(events)

    def entries(self, events: Events) -> Entries:
        """Return the frames of a recording, sparse.

        Args:
            events: Events of one recording, in any order.

        Returns:
            The number of steps of the windows; places int64 `[entries]`, rising, each
            `((step * channels + channel) * height + y) * width + x`; and the numbers there, float32.

        Raises:
            ShapeError: `size` is larger than the sensor.
            InputError: Events are before `start`, all would be dropped, or there are too many steps.
        """
        size = int(np.prod(self.feature(events)))
        steps, found, counts = self.windows.entries(events)
        keep, held = math.exp(-self.windows.microseconds / self.tau), np.zeros(size)
        bounds = np.searchsorted(found, np.arange(steps + 1) * size)
        places, values = list[Array](), list[Array]()
        for step in range(steps):
            inside = slice(bounds[step], bounds[step + 1])
            held *= keep
            held[found[inside] - step * size] += counts[inside]
            here = np.flatnonzero(held)
            places.append(step * size + here)
            values.append(held[here])
        return _single(steps, np.concatenate(places), np.concatenate(values))


def _single(steps: int, places: Array, values: Array) -> Entries:
    """Return entries in float32, without those that are 0 in it."""
    single = values.astype(np.float32)
    here = single != 0
    return steps, places[here], single[here]


def _no_clip(owner: str, clip: int | None) -> None:
    if clip is not None:
        raise ConfigError(
            f"{owner} got clip={clip}, but its numbers are no counts that could be limited before they are added. "
            "Leave clip out, or clamp the frames yourself."
        )
