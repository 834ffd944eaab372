"""Containers of an image data set: images and labels in two parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import check_count, check_counts, check_instance, check_row, check_within
from spikewright.data.selection import balanced_order, stratified
from spikewright.data.transforms import augmentation
from spikewright.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels. `len(split)` is the number of samples.

    Args:
        images: uint8 (0 to 255) or float32 (0 to 1). Shape `[n, C, H, W]`.
        labels: Classes, int64 `[n]`.

    Raises:
        ShapeError: A tensor has another shape or type, or the numbers of images and labels differ.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        check_tensor("images", images, "[n, C, H, W]")
        check_tensor("labels", labels, "one class for each image")
        layout = images.dim() == 4 and images.dtype in (torch.uint8, torch.float32)
        if not (layout and labels.dtype == torch.int64 and list(labels.shape) == [len(images)]):
            raise ShapeError(
                f"Split got images {images.dtype} {list(images.shape)} and labels {labels.dtype} {list(labels.shape)}. "
                "It holds uint8 or float32 images [n, C, H, W] and one int64 label for each, so that batches can be "
                "taken from both by the same index. Add the channel axis, or convert with .to(torch.int64)."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "Split":
        """Return the samples at some indices, in that order.

        Args:
            indices: int64 `[m]`, each from 0 to n - 1.

        Raises:
            ShapeError: `indices` is no such tensor.
            InputError: An index is out of range.
        """
        check_tensor("indices", indices, "int64 [m]")
        if indices.dtype != torch.int64 or indices.dim() != 1:
            raise ShapeError(
                f"Split.subset was given indices {indices.dtype} {list(indices.shape)}. Samples are taken by a list of "
                "positions, int64 [m]. Give mask.nonzero().flatten() for a mask."
            )
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise InputError(
                f"Split.subset was given indices from {int(indices.min())} to {int(indices.max())}, but there are "
                f"{len(self)} samples, numbered from 0. Leave the others out."
            )
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Dataset:
    """An image data set with a training and a test part, in memory.

    Args:
        name: Name in reports.
        train: `Split` to train on.
        test: `Split` to evaluate on.
        classes: Number of classes, at least 1; labels are from 0 to `classes - 1`.
        mean: Mean of each channel on the scale 0 to 1, any finite number. One entry per channel.
        std: Standard deviation of each channel on the same scale, a finite number > 0. One entry per
            channel.
        augment: Recommended augmentation: "none", "shift", "crop", "crop-flip" or "ottt-cifar". Default: "none".

    Raises:
        ShapeError: The parts have different image shapes, or `mean` or `std` does not have one entry per channel.
        InputError: A label is out of range, or an image is not finite.
        ConfigError: A number is out of its range.

    >>> import torch
    >>> from spikewright.data import Dataset, Split
    >>> images, labels = torch.zeros(6, 1, 8, 8), torch.arange(6) % 2
    >>> data = Dataset("zeros", Split(images, labels), Split(images, labels), classes=2, mean=(0.0,), std=(1.0,))
    >>> data.shape, len(data.limited(train=4).train)
    ((1, 8, 8), 4)
    """

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"

    def __post_init__(self) -> None:
        check_counts("Dataset", classes=self.classes)
        augmentation(self.augment)
        for part, split in (("train", self.train), ("test", self.test)):
            check_instance("Dataset", part, split, Split, "Split(images, labels)")
        _check_channels(self)
        for part, split in (("train", self.train), ("test", self.test)):
            _check_labels(self, part, split.labels)
            _check_finite(self, part, split.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def limited(self, train: int | None = None, test: int | None = None) -> "Dataset":
        """Return the data set with at most so many samples per part.

        The choice is fixed and balanced over classes; a smaller choice is part of a larger one.

        Args:
            train: Largest number of training samples, at least 1. Default: None, all.
            test: Largest number of test samples, at least 1. Default: None, all.

        Raises:
            ConfigError: A limit is below 1.
        """
        return replace(self, train=_at_most(self.train, train, "train"), test=_at_most(self.test, test, "test"))

    def with_validation(self, fraction: float, seed: int = 0) -> tuple["Dataset", Split]:
        """Hold out a fraction of every class of the training part; `mean` and `std` do not change.

        Args:
            fraction: Fraction to hold out, in (0, 1).
            seed: Seed of the choice, from 0 to 2**63 - 1. Default: 0.

        Returns:
            The data set with the remaining training samples, and the `Split` of held-out samples.

        Raises:
            ConfigError: `fraction` is not in (0, 1), or `seed` is negative.
        """
        kept, held = stratified(self.train.labels, fraction, seed)
        return replace(self, train=self.train.subset(kept)), self.train.subset(held)


def _at_most(split: Split, limit: int | None, part: str) -> Split:
    if limit is not None:
        check_count("limited", part, limit, "nothing can be learned or measured on no samples; None is for all")
    if limit is None or limit >= len(split):
        return split
    return split.subset(balanced_order(split.labels, seed=0)[:limit].sort().values)


def _check_channels(data: Dataset) -> None:
    train, test = list(data.train.images.shape[1:]), list(data.test.images.shape[1:])
    if train != test:
        raise ShapeError(
            f"Dataset '{data.name}' has training images {train}, test images {test} ([C, H, W]). One network must "
            "take both parts. Resize the images."
        )
    check_statistics("Dataset", data.shape[0], data.mean, data.std)


def check_statistics(owner: str, channels: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise an error unless the mean and the standard deviation of every channel are numbers to normalise by.

    Args:
        owner: Name of the class that takes them.
        channels: Number of channels.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Raises:
        ShapeError: There is not one of each per channel.
        ConfigError: One is no sequence, or holds what is no such number.
    """
    mean, std = check_row(owner, "mean", mean), check_row(owner, "std", std)
    if not len(mean) == len(std) == channels:
        raise ShapeError(
            f"{owner} was given {len(mean)} means and {len(std)} deviations for images with {channels} channels. Each "
            "channel is normalised by its own. Pass the mean and std of the data set the images come from."
        )
    for average, deviation in zip(mean, std):
        check_within(owner, "mean", average, "(-inf, inf)", "it is taken off the images")
        check_within(
            owner, "std", deviation, "(0, inf)", "images are divided by it; 1.0 suits a channel without changes"
        )


def _check_labels(data: Dataset, part: str, labels: Tensor) -> None:
    wrong = ((labels < 0) | (labels >= data.classes)).nonzero().flatten()
    if len(wrong):
        first = int(wrong[0])
        raise InputError(
            f"Dataset '{data.name}' has {data.classes} classes, but the {part} label at index {first} is "
            f"{int(labels[first])} ({len(wrong)} of {len(labels)} are out of range). Labels index the outputs of the "
            f"network, 0 to {data.classes - 1}. Renumber the labels, or give the right number of classes."
        )


def _check_finite(data: Dataset, part: str, images: Tensor) -> None:
    if not images.is_floating_point():
        return
    wrong = (~images.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(wrong):
        raise InputError(
            f"Dataset '{data.name}' has a NaN or an infinity in the {part} image at index {int(wrong[0])} "
            f"({len(wrong)} of {len(images)} images are affected). One such value spoils every weight it reaches. "
            "Remove or repair these images."
        )
