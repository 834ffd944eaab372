"""Batches of encoded sequences in a reproducible order."""

from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.devices import usable_device
from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import MOST, check_count, check_counts, check_flag, check_instance, check_seed
from spikewright._util.share import Share
from spikewright.data.dataset import Split, check_statistics
from spikewright.data.encoding import encoding as encoding_named
from spikewright.data.transforms import augmentation
from spikewright.errors import InputError

# First part of the key of a random stream: order and contents of batches, and draws from them, are independent.
_ORDER, _CONTENT, _DRAWS = 0, 1, 2


class Batches:
    """Batches of augmented, encoded sequences that depend on seed, epoch and position alone.

    An epoch started in the middle yields exactly the remaining batches of a whole one. With several processes each gets
    its part of the same batch, which `share` describes: random choices are made for the whole batch before it is
    divided. Parts differ by one sample at most; a batch with fewer samples than processes is given to each as a whole.
    A single sample that is left at the end of an epoch joins the batch before it, as batch norm cannot learn from one.
    `len(batches)` is the number of batches per epoch.

    Args:
        split: `Split` of samples.
        batch_size: Samples per batch over all processes, at least 1.
        steps: Time steps of an input, from 1 to 10**6.
        mean: Mean of each channel on the scale 0 to 1, for encodings of normalised images. One entry per channel, any
            finite number.
        std: Standard deviation of each channel on the same scale, a finite number > 0. One entry per
            channel.
        seed: Seed of order, augmentation and random spikes, from 0 to 2**63 - 1. Default: 0.
        shuffle: True draws a new random order in each epoch, False keeps the order of the split. Default: True.
        augment: Name of an augmentation: "none", "shift", "crop", "crop-flip" or "ottt-cifar". Default: "none".
        encoding: Name of an encoding: "direct" (constant current), "poisson" or "latency". Default: "direct".
        drop_last: True leaves out a last batch that is not full. Default: False.
        device: `torch.device` of the batches. All random numbers are drawn on the CPU, so batches are the same on every
            device. Default: "cpu".
        rank: Number of this process, from 0 to `world - 1`. Default: 0.
        world: Number of processes that share each batch, at least 1. Default: 1.

    Raises:
        InputError: There is no batch, or `rank` is not one of the processes.
        ShapeError: `mean` or `std` does not have one entry per channel.
        ConfigError: The augmentation or the encoding is unknown, or a number is out of its range.

    >>> from spikewright.data import Batches
    >>> from spikewright.data import load
    >>> data = load("synthetic", classes=2, size=10)
    >>> batches = Batches(data.train, batch_size=4, steps=6, mean=data.mean, std=data.std)
    >>> x, y = next(batches.epoch(0))
    >>> x.shape, y.shape
    (torch.Size([6, 4, 1, 8, 8]), torch.Size([4]))
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        steps: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        shuffle: bool = True,
        augment: str = "none",
        encoding: str = "direct",
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_seed("Batches", seed)
        check_flag("Batches", shuffle=shuffle, drop_last=drop_last)
        check_counts("Batches", world=world)
        check_counts("Batches", least=0, rank=rank)
        check_instance("Batches", "split", split, Split, "Split(images, labels)")
        _check_sizes(len(split), batch_size, steps, drop_last)
        check_statistics("Batches", split.images.shape[1], mean, std)
        self.split, self.batch_size, self.steps = split, batch_size, steps
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.device, self.rank, self.world = usable_device(f"Batches(device={shown(device)})", device), rank, world
        self._augment = augmentation(augment)
        self._encode = encoding_named(encoding)
        self._mean, self._std = (torch.tensor(row, device=self.device).view(-1, 1, 1) for row in (mean, std))
        self._check_ranks()

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        if rest == 1 < self.batch_size and full:
            return full
        return full + (rest > 0 and not self.drop_last)

    def _bounds(self, index: int) -> tuple[int, int]:
        """Return the positions in the order of an epoch where a batch starts and stops."""
        start, last = index * self.batch_size, index == len(self) - 1
        return start, len(self.split) if last and not self.drop_last else start + self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Return an iterator over the batches of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            start: Number of the first batch, from 0 to `len(self)`. Default: 0.

        Returns:
            Pairs of inputs `[time, batch, C, H, W]` of torch's default dtype, which must not be written to, and labels
            int64 `[batch]`.

        Raises:
            InputError: `epoch` is negative, or `start` is out of range.
        """
        self._check_position(epoch, start, len(self))
        order = self._order(epoch)
        return (self._batch(order, epoch, index) for index in range(start, len(self)))

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share:
        """Return the part of a batch that this process gets, for `Rule.updates`.

        Args:
            epoch: Number of the epoch, from 0.
            index: Number of the batch in it, from 0.
            sync_batch_norm: If True, batch norm takes its statistics over the batch of all processes. Default: False.

        Raises:
            InputError: `epoch` is negative, or `index` is out of range.
        """
        self._check_position(epoch, index, len(self) - 1)
        start, stop = self._bounds(index)
        draws = keyed_generator(self.seed, _DRAWS, epoch, index)
        return Share(stop - start, self.rank, self.world, draws, sync_batch_norm)

    def _check_position(self, epoch: int, start: int, last: int) -> None:
        whole = isinstance(epoch, Integral) and isinstance(start, Integral)
        if not whole or epoch < 0 or not 0 <= start <= last:
            raise InputError(
                f"Batches of epoch {shown(epoch)} from number {shown(start)} on were asked for. Epochs are numbered "
                f"from 0 and this one has {len(self)} batches. Give an epoch of 0 or more and a number of 0 to {last}."
            )

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.split))
        return torch.randperm(len(self.split), generator=keyed_generator(self.seed, _ORDER, epoch))

    def _batch(self, order: Tensor, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        chosen = order[slice(*self._bounds(index))]
        generator = keyed_generator(self.seed, _CONTENT, epoch, index)
        images = self._augment(self.split.images[chosen], generator).to(self.device)
        x = self._encode(self._scaled(images), self.steps, generator)
        mine = Share(len(chosen), self.rank, self.world)
        return mine.own(x, 1), self.split.labels[mine.own(chosen)].to(self.device)

    def _scaled(self, images: Tensor) -> Tensor:
        whole = images.dtype == torch.uint8
        images = images.to(torch.get_default_dtype())
        images = images / 255 if whole else images
        return (images - self._mean) / self._std if self._encode.normalised else images

    def _check_ranks(self) -> None:
        if not 0 <= self.rank < self.world:
            raise InputError(
                f"Batches(rank={self.rank}, world={self.world}) was asked for. The processes that share a batch are "
                "numbered from 0 to world - 1. Give this process its own number."
            )


def _check_sizes(samples: int, batch_size: int, steps: int, drop_last: bool) -> None:
    check_count("Batches", "batch_size", batch_size, "a batch has at least one sample")
    check_count("Batches", "steps", steps, "an input has at least one time step", most=MOST)
    if samples < (batch_size if drop_last else 1):
        raise InputError(
            f"Batches(batch_size={batch_size}, drop_last={drop_last}) was given {samples} samples, which make no "
            "batch. Nothing can be learned or measured on none. Give more samples, a smaller batch, or "
            "drop_last=False."
        )
