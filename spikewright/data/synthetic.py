"""Synthetic: a small image set made on the spot, for tests and first steps."""

import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data.dataset import Dataset, Split
from spikewright.data.moments import channel_statistics
from spikewright.errors import InputError


def synthetic(classes: int = 4, size: int = 200, features: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Dataset:
    """Make images that are the prototype of their class under Gaussian pixel noise.

    Prototypes have pixels uniform in 0.2 to 0.8 of full intensity; the noise has standard deviation 0.15.  At the
    default 64 pixels two prototypes lie about 13 deviations apart, so the ceiling is an accuracy of 1.0, and a linear
    classifier reaches it.  It falls with fewer pixels: below a dozen of them classes begin to overlap.

    Args:
        classes: Number of classes, 2 or more.
        size: Training samples, at least one per class and dealt out evenly.  There are as many test samples.
        features: Shape of an image (C, H, W).
        seed: Seed of prototypes and noise.

    Raises:
        InputError: There are fewer than two classes, or fewer samples than classes.
    """
    if classes < 2 or size < classes:
        raise InputError(
            f"synthetic(classes={classes}, size={size}) was asked for. Learning to tell classes apart takes two of "
            "them, and at least one sample of each. Raise `classes` to 2 or more and `size` to `classes` or more."
        )
    generator = keyed_generator(seed)
    prototypes = 0.2 + 0.6 * torch.rand(classes, *features, generator=generator)
    train, test = (_noisy(prototypes, size, generator) for _ in range(2))
    mean, std = channel_statistics(train.images)
    return Dataset("synthetic", train, test, classes=classes, mean=mean, std=std)


def _noisy(prototypes: torch.Tensor, size: int, generator: torch.Generator) -> Split:
    labels = torch.arange(size) % len(prototypes)
    noise = 0.15 * torch.randn(size, *prototypes.shape[1:], generator=generator)
    images = (prototypes[labels] + noise).clamp(0, 1)
    return Split((images * 255).round().to(torch.uint8), labels)
