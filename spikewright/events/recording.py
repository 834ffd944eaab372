"""Events of one recording: where, when and of which polarity something changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikewright.errors import InputError, ShapeError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one recording, in the order of the file. `len(events)` is their number.

    Pixels are counted from 0 at the top left, as the file stores them: nothing is flipped.  A sensor without rows, such
    as a cochlea, has a height of 1, and `x` is its channel.

    Args:
        t: Times in microseconds.  int64 `[n]`, at least 0, in any order.
        x: Columns.  int32 `[n]`, from 0 to width - 1.
        y: Rows.  int32 `[n]`, from 0 to height - 1.
        p: Polarities: 1 where brightness rose, 0 where it fell.  uint8 `[n]`.
        height: Rows of the sensor, at least 1.
        width: Columns of the sensor, at least 1.
        polarities: From 1 to 2; 1 is for a sensor whose events all have polarity 0.  Default: 2.

    Raises:
        ShapeError: The arrays are not of one length, or not of whole numbers.
        InputError: A number is out of its range; the first event of such is named.

    >>> import numpy as np
    >>> from spikewright.events import Events
    >>> t, x, y, p = np.array([[5, 9], [0, 3], [1, 1], [1, 0]])
    >>> events = Events(t, x, y, p, height=2, width=4)
    >>> len(events), events.duration
    (2, 5)
    """

    t: Array
    x: Array
    y: Array
    p: Array
    height: int
    width: int
    polarities: int = 2

    def __post_init__(self) -> None:
        kinds = {"t": np.int64, "x": np.int32, "y": np.int32, "p": np.uint8}
        limits = {"t": None, "x": self.width, "y": self.height, "p": self.polarities}
        for name, value in (("height", self.height), ("width", self.width), ("polarities", self.polarities)):
            if (
                not isinstance(value, int)
                or isinstance(value, bool)
                or value < 1
                or (name == "polarities" and value > 2)
            ):
                raise InputError(
                    f"Events got {name}={value!r}. It is a whole number of at least 1; polarities are 1 or 2."
                )
        for name, kind in kinds.items():
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or values.dtype.kind not in "iub" or len(values) != len(self.t):
                raise ShapeError(
                    f"Events got {name} of {values.dtype} {list(values.shape)}, beside t with {len(self.t)} entries. "
                    "All four are arrays of whole numbers [n], one entry for each event."
                )
            top = limits[name]
            wrong = values < 0 if top is None else (values < 0) | (values >= top)
            if wrong.any():
                place = int(wrong.argmax())
                span = "at least 0" if top is None else f"from 0 to {top - 1}"
                raise InputError(
                    f"Events got {name}={int(values[place])} at event {place}, but {name} is {span}. Give the size of "
                    "the sensor that recorded them, or leave such events out yourself."
                )
            object.__setattr__(self, name, values.astype(kind, copy=False))

    def __len__(self) -> int:
        return len(self.t)

    @property
    def duration(self) -> int:
        """Microseconds from the earliest to the latest event, both included; 0 without events."""
        return int(self.t.max() - self.t.min()) + 1 if len(self) else 0

    @property
    def in_order(self) -> bool:
        """True if no event is earlier than the one before it."""
        return bool((self.t[1:] >= self.t[:-1]).all())

    def sorted(self) -> "Events":
        """Return the events in the order of their times; those of one time keep their order."""
        return self if self.in_order else self.at(np.argsort(self.t, kind="stable"))

    def at(self, which: Array | slice) -> "Events":
        """Return some of the events.

        Args:
            which: Positions, a mask `[n]` of bools, or a slice.
        """
        return replace(self, t=self.t[which], x=self.x[which], y=self.y[which], p=self.p[which])


def joined(parts: Sequence[Events]) -> Events:
    """Return recordings of one sensor one after the other, as they are.

    Args:
        parts: At least one.

    Raises:
        ShapeError: Their sensors differ.
    """
    sizes = {(part.height, part.width, part.polarities) for part in parts}
    if len(sizes) != 1:
        raise ShapeError(
            f"Recordings of sensors {sorted(sizes)} (height, width, polarities) cannot be joined. Join equal ones."
        )
    names = ("t", "x", "y", "p")
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
