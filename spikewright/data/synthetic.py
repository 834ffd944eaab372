"""A small generated image data set, for tests and examples."""

import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data.dataset import Dataset, Split
from spikewright.data.moments import channel_statistics
from spikewright.errors import InputError


def synthetic(classes: int = 4, size: int = 200, features: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Dataset:
    """Generate images that are the prototype of their class plus Gaussian pixel noise.

    Prototypes have pixels uniform in 0.2 to 0.8 of full intensity; the noise has standard deviation 0.15. With the
    default 64 pixels, prototypes are about 13 standard deviations apart and a linear classifier reaches an accuracy of
    1.0. With fewer than a dozen pixels classes overlap.

    Args:
        classes: Number of classes, at least 2. Default: 4.
        size: Number of training samples, at least one per class, balanced; there are as many test samples.
            Default: 200.
        features: Shape of an image (C, H, W). Default: (1, 8, 8).
        seed: Seed of prototypes and noise, at least 0. Default: 0.

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
