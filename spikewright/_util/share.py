"""The part of a batch that one of several processes has, and what is computed over the whole batch."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from spikewright._util.collectives import Sum, collect
from spikewright._util.ranges import check_count, check_counts, check_flag
from spikewright._util.text import counted
from spikewright.errors import InputError, ShapeError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Samples of a batch that this process has: those from `start` up to but not including `stop`.

    Parts differ by one sample at most; the first processes have the larger ones.  A batch with fewer samples than
    processes is not divided: every process has all of it.

    Args:
        total: Number of samples of the batch over all processes.  At least 1.
        rank: Number of this process, from 0 to `world - 1`.  Default: 0.
        world: Number of processes that share the batch.  At least 1.  Default: 1.
        draws: Source of random numbers that all processes have in the same state.  Masks and noise are drawn from it
            for the whole batch, so that a sample gets the same ones whatever the number of processes.  Default: None,
            every process draws for its own samples from the global generator of torch.
        sync_batch_norm: If True, batch norm takes its statistics over the batch of all processes; otherwise over the
            samples of this one.  Default: False.

    Raises:
        InputError: `total` or `world` is below 1, or `rank` is out of range.

    >>> from spikewright._util.share import Share
    >>> [(share.start, share.stop) for share in (Share(5, rank=0, world=2), Share(5, rank=1, world=2))]
    [(0, 3), (3, 5)]
    >>> Share(1, rank=1, world=2).divided, Share(1, rank=1, world=2).size
    (False, 1)
    """

    total: int
    rank: int = 0
    world: int = 1
    draws: torch.Generator | None = None
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        check_counts("Share", total=self.total, world=self.world)
        check_count("Share", "rank", self.rank, "processes are numbered from 0", least=0)
        check_flag("Share", sync_batch_norm=self.sync_batch_norm)
        if self.total < 1 or self.world < 1 or not 0 <= self.rank < self.world:
            raise InputError(
                f"Share(total={self.total}, rank={self.rank}, world={self.world}) was asked for. A batch has at least "
                "one sample, and the processes that share it are numbered from 0 to world - 1. Give the size of the "
                "whole batch, and the number of this process."
            )

    @property
    def divided(self) -> bool:
        """True if processes have different samples."""
        return 1 < self.world <= self.total

    @property
    def parts(self) -> list[int]:
        """Number of samples of every process."""
        if not self.divided:
            return [self.total] * self.world
        each, more = divmod(self.total, self.world)
        return [each + (rank < more) for rank in range(self.world)]

    @property
    def start(self) -> int:
        """Index of the first sample of this process in the batch."""
        return sum(self.parts[: self.rank]) if self.divided else 0

    @property
    def stop(self) -> int:
        """Index behind the last sample of this process."""
        return self.start + self.size

    @property
    def size(self) -> int:
        """Number of samples of this process."""
        return self.parts[self.rank]

    @property
    def largest(self) -> int:
        """Number of samples of the process that has most."""
        return self.parts[0]

    @property
    def weight(self) -> float:
        """Share of this process in what does not depend on samples, such that the sum over a divided batch is 1."""
        return self.size / self.total

    def rows(self, own: int) -> int:
        """Return the number of rows of the whole batch.

        Args:
            own: Number of rows of this process, the same for each of its samples.
        """
        return own // self.size * self.total

    def own(self, whole: Tensor, dim: int = 0) -> Tensor:
        """Return the rows of this process.

        Args:
            whole: Rows of the whole batch along an axis, as many for each sample.
            dim: The axis.  Default: 0.

        Raises:
            ShapeError: The axis does not have as many rows for each sample.
        """
        if not self.divided:
            return whole
        if whole.dim() <= dim or whole.shape[dim] % self.total:
            raise ShapeError(
                f"A tensor of shape {list(whole.shape)} was to be divided among {self.world} processes, by its axis "
                f"{dim}, but the batch has {counted(self.total, 'sample')}. Every process takes the rows of its "
                "samples. Give one target per sample, and x as [time, batch, *feature]."
            )
        each = whole.shape[dim] // self.total
        return whole.narrow(dim, self.start * each, self.size * each)

    def of(self, total: int) -> "Share":
        """Return the share of this process in another batch.

        Args:
            total: Number of samples of that batch.  At least 1.
        """
        return replace(self, total=total)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over processes, differentiable; the tensor itself if the batch is not divided.

        Args:
            x: Sum over the samples of this process, of any shape.
        """
        return Sum.apply(x) if self.divided else x

    def least(self, value: int) -> int:
        """Return the smallest value of all processes, for a decision that has to be the same in all.

        Args:
            value: Value of this process, any integer.
        """
        if not self.divided:
            return value
        return min(int(other) for other in collect(torch.tensor([value]), [1] * self.world))

    def gather(self, x: Tensor, dim: int = 0) -> Tensor:
        """Return the rows of the whole batch, of which those of this process keep their graph.

        Args:
            x: Rows of this process along an axis, as many for each sample.
            dim: The axis.  Default: 0.
        """
        if not self.divided:
            return x
        each = x.shape[dim] // self.size
        found = [part.movedim(0, dim) for part in collect(x.movedim(dim, 0), [each * size for size in self.parts])]
        found[self.rank] = x
        return torch.cat(found, dim)


class _Here(threading.local):
    """Holds a share for each thread; a compiler can trace it, unlike a `ContextVar`."""

    share: Share | None = None


_HERE = _Here()


@contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Within it, what is computed and drawn concerns a share of a batch; `None` is a batch of this process alone."""
    before, _HERE.share = _HERE.share, share
    try:
        yield
    finally:
        _HERE.share = before


def within(share: Share | None, values: Iterable[T]) -> Iterator[T]:
    """Yield the values of an iterator that runs within `sharing(share)`, unlike the code that receives them."""
    if share is None and _HERE.share is None:
        yield from values
        return
    source = iter(values)
    while True:
        with sharing(share):
            try:
                value = next(source)
            except StopIteration:
                return
        yield value


def current_share() -> Share | None:
    """Return the share that the code within `sharing` concerns; `None` outside."""
    return _HERE.share


def divided_share() -> Share | None:
    """Return the same if the batch is divided among processes, otherwise `None`."""
    share = _HERE.share
    return share if share is not None and share.divided else None


def mean_over_batch(x: Tensor) -> Tensor:
    """Return the mean over the samples of the whole batch, given those of this process, `[batch, *feature]`."""
    share = divided_share()
    return x.mean(0) if share is None else share.sum(x.sum(0)) / share.rows(len(x))


def whole_batch(own: int) -> int:
    """Return the number of rows of the whole batch, given that of this process."""
    share = divided_share()
    return own if share is None else share.rows(own)
