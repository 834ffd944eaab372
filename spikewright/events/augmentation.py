"""Random changes of recordings or of their frames: what is drawn, and what it does to either."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import check_counts, check_instance, check_seed
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, ShapeError
from spikewright.events.recording import Events

Sample = TypeVar("Sample", Events, Tensor)


class Augmentation(ABC):
    """A random change of one recording, or of its frames; all frames of a recording are changed alike.

    Called with `Events`, or with frames `[steps, channels, height, width]`, and a generator, it returns new ones of the
    same kind, size and type.  The same generator state draws the same change for both.
    """

    def __call__(self, sample: Sample, generator: Generator) -> Sample:
        """Return the sample, changed.

        Args:
            sample: `Events`, or frames of any type.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.

        Raises:
            ConfigError: It is no such sample, or the change is none of this kind.
            ShapeError: Frames have another shape.
        """
        check_instance(type(self).__name__, "generator", generator, Generator, "torch.Generator().manual_seed(0)")
        if isinstance(sample, Events):
            return self.on_events(sample, generator)
        check_tensor("frames", sample, "[steps, channels, height, width]")
        if sample.dim() != 4:
            raise ShapeError(
                f"{type(self).__name__} got frames {list(sample.shape)}. One recording has frames [steps, channels, "
                "height, width]. Change a batch with augmented(...)."
            )
        return self.on_frames(sample, generator)

    @abstractmethod
    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """

    @abstractmethod
    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """


class OfEvents(Augmentation):
    """A change that only events can have, as frames no longer tell them apart; not used itself."""

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Refuse frames.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{type(self).__name__} was given frames {list(frames.shape)}. It changes single events, which frames have "
            "added up. Call it on Events before they are made to frames."
        )


@dataclass(frozen=True)
class Chain(Augmentation):
    """Several changes, one after the other.

    Args:
        parts: The changes, in their order.

    >>> import torch
    >>> from spikewright.events import Chain, Flip, Roll
    >>> frames = torch.arange(4.0).view(1, 1, 1, 4)
    >>> Chain((Flip(1.0), Roll(0)))(frames, torch.Generator()).flatten()
    tensor([3., 2., 1., 0.])
    """

    parts: tuple[Augmentation, ...]

    def __post_init__(self) -> None:
        _check_parts("Chain", self.parts)

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        for part in self.parts:
            events = part(events, generator)
        return events

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        for part in self.parts:
            frames = part(frames, generator)
        return frames


@dataclass(frozen=True)
class OneOf(Augmentation):
    """One of several changes, each as probable as the others.

    Args:
        parts: The changes, at least one.

    >>> import torch
    >>> from spikewright.events import Flip, OneOf
    >>> frames = torch.arange(4.0).view(1, 1, 1, 4)
    >>> OneOf((Flip(0.0), Flip(0.0)))(frames, torch.Generator()).flatten()
    tensor([0., 1., 2., 3.])
    """

    parts: tuple[Augmentation, ...]

    def __post_init__(self) -> None:
        _check_parts("OneOf", self.parts)
        if not self.parts:
            raise ConfigError("OneOf was given no change to choose from. Give one at least, or Chain(()) for none.")

    def on_events(self, events: Events, generator: Generator) -> Events:
        """Return events, changed.

        Args:
            events: Events of one recording.
            generator: `torch.Generator` on the CPU.
        """
        return self.parts[draw_whole(0, len(self.parts) - 1, generator)](events, generator)

    def on_frames(self, frames: Tensor, generator: Generator) -> Tensor:
        """Return frames, changed.

        Args:
            frames: Frames of one recording.  Shape `[steps, channels, height, width]`.
            generator: `torch.Generator` on the CPU.
        """
        return self.parts[draw_whole(0, len(self.parts) - 1, generator)](frames, generator)


def augmented(
    x: Tensor, augmentation: Callable[[Tensor, Generator], Tensor], indices: Tensor, *, seed: int, epoch: int
) -> Tensor:
    """Return a batch of frames, each recording changed by a draw of its own.

    The draw depends on seed, epoch and number of the recording alone: not on the batch it is in, on its place there, on
    the number of processes or on what was drawn before.  An epoch that is resumed changes recordings as it would have.
    Frames of padding are changed too; an augmentation that keeps zeros leaves them 0.

    Args:
        x: Frames of any type.  Shape `[steps, batch, channels, height, width]`.
        augmentation: `Augmentation`, or another function of frames `[steps, channels, height, width]` and generator.
        indices: Number of each recording in the data set, at least 0.  int64 `[batch]`.
        seed: Seed of the run, from 0 to 2**63 - 1.
        epoch: Number of the epoch, at least 0.

    Raises:
        ShapeError: `x` or `indices` has another shape.
        ConfigError: `seed` or `epoch` is out of its range.

    >>> import torch
    >>> from spikewright.events import augmented, Flip
    >>> x = torch.arange(4.0).expand(2, 3, 1, 1, 4)
    >>> augmented(x, Flip(1.0), torch.tensor([5, 6, 7]), seed=0, epoch=0)[0, 0]
    tensor([[[3., 2., 1., 0.]]])
    """
    check_seed("augmented", seed)
    check_counts("augmented", least=0, epoch=epoch)
    check_tensor("x", x, "[steps, batch, channels, height, width]")
    check_tensor("indices", indices, "int64 [batch]")
    if x.dim() != 5 or indices.dtype != torch.int64 or list(indices.shape) != [x.shape[1]]:
        raise ShapeError(
            f"augmented got frames {list(x.shape)} and indices {indices.dtype} {list(indices.shape)}. Frames are "
            "[steps, batch, channels, height, width], and each recording of the batch has its number, int64 [batch]."
        )
    numbers = indices.tolist()
    made = [augmentation(x[:, at], keyed_generator(seed, "events", epoch, n)) for at, n in enumerate(numbers)]
    return torch.stack(made, 1) if made else x


def draw_whole(low: int, high: int, generator: Generator) -> int:
    """Return a whole number from `low` to `high`, both included, each as probable as the others."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_share(generator: Generator) -> float:
    """Return a number in [0, 1), drawn in double precision."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _check_parts(owner: str, parts: object) -> None:
    if not isinstance(parts, tuple) or not all(isinstance(part, Augmentation) for part in parts):
        raise ConfigError(
            f"{owner} got {kind_of(parts)}: the changes are a tuple of augmentations. Give one such as "
            f"{owner}((Flip(), Roll(5)))."
        )
