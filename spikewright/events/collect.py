"""Frames of all recordings of a data set."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from spikewright._util.ranges import check_instance
from spikewright.data.sequences import Sequences, of_arrays
from spikewright.errors import InputError, ShapeError
from spikewright.events.frames import ByBins, Frames
from spikewright.events.recording import Events
from spikewright.events.sparse import Entries


class Labelled(Protocol):
    """Recordings with their labels, read when they are asked for."""

    @property
    def digest(self) -> str | Callable[[], str]:
        """Text that depends on all of the recordings and labels, and on their order; or a method that returns it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Events, int]: ...


def framed(recordings: Labelled, mode: Frames) -> Sequences:
    """Return the frames of all recordings, sparse, in their order.

    Args:
        recordings: What has a length and gives a pair of `Events` and label for each number from 0; sensors of one
            size, or a mode that scales them to one.
        mode: `ByBins(10)` or another.

    Raises:
        ConfigError: `mode` is no such object.
        InputError: There is no recording, or one cannot be made to frames; the message names it.
        ShapeError: Frames of two recordings differ in shape.

    >>> from spikewright.events import ByBins, framed, saccades
    >>> import torch
    >>> recordings = saccades(torch.eye(4)[None, None].expand(3, 1, 4, 4), torch.tensor([0, 1, 0]))
    >>> data = framed(recordings, ByBins(5))
    >>> len(data), data.feature, data.steps
    (3, (2, 12, 12), tensor([5, 5, 5]))
    """
    check_instance("framed", "mode", mode, Frames, "ByBins(10)")
    if not len(recordings):
        raise InputError(
            "framed got no recordings, of which nobody can say what shape their frames would have. Give one at least."
        )
    entries, labels, feature = list[Entries](), list[int](), (0, 0, 0)
    for number in range(len(recordings)):
        events, label = recordings[number]
        try:
            entries.append(mode.entries(events))
        except InputError as error:
            raise InputError(f"Recording {number} (label {label}) was to be made to frames. {error}") from error
        labels.append(int(label))
        found = mode.feature(events)
        feature = found if number == 0 else feature
        if found != feature:
            raise ShapeError(
                f"framed got recording {number} with frames of shape {list(found)}, where those before have "
                f"{list(feature)} (channels, height, width). One network must take all. Give the mode a size, such as "
                f"{ByBins.__name__}(10, size=(32, 32)), and recordings of equal polarities."
            )
    kind = np.result_type(*(each[2] for each in entries))
    widest = np.float32 if kind.kind == "f" else kind  # uint8, int16 and float32 each hold the ones before
    same = [(steps, places, values.astype(widest)) for steps, places, values in entries]
    return of_arrays(same, feature, torch.tensor(labels, dtype=torch.int64))
