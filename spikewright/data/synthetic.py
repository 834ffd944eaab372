"""A small generated image data set, for tests and examples."""

import torch

from spikewright._util.randomness import keyed_generator
from spikewright._util.ranges import MOST, check_count, check_seed, check_sizes
from spikewright.data.dataset import Dataset, Split
from spikewright.data.moments import channel_statistics


def synthetic(classes: int = 4, size: int = 200, features: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Dataset:
    """Generate images that are the prototype of their class plus Gaussian pixel noise.

    Prototypes have pixels uniform in 0.2 to 0.8 of full intensity; the noise has standard deviation 0.15. With the
    default 64 pixels, prototypes are about 13 standard deviations apart and a linear classifier reaches an accuracy of
    1.0. With fewer than a dozen pixels classes overlap.

    Args:
        classes: Number of classes, from 2 to 10**6. Default: 4.
        size: Number of training samples, from `classes` to 10**6, balanced; there are as many test samples.
            Default: 200.
        features: Shape of an image (C, H, W), each from 1 to 10**6. Default: (1, 8, 8).
        seed: Seed of prototypes and noise, from 0 to 2**63 - 1. Default: 0.

    Raises:
        ConfigError: A number is out of its range.
    """
    check_count("synthetic", "classes", classes, "learning to tell classes apart takes two of them", 2, MOST)
    check_count("synthetic", "size", size, "there is at least one sample of each class", classes, MOST)
    check_sizes("synthetic", features=features)
    check_seed("synthetic", seed)
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
