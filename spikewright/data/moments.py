"""Mean and standard deviation of image channels."""

import torch
from torch import Tensor

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def channel_statistics(images: Tensor) -> Statistics:
    """Return mean and standard deviation of each channel, on the scale 0 to 1.

    A constant channel gets the standard deviation 1, so that dividing by it is harmless.

    Args:
        images: uint8 (0 to 255) or floating-point (0 to 1), with at least one pixel. Shape `[n, C, H, W]`.

    Returns:
        C means, and C standard deviations over all pixels (population form).

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    moments = [_moments(images[:, channel]) for channel in range(images.shape[1])]
    means, deviations = zip(*moments)
    return tuple(means), tuple(deviations)


def _moments(channel: Tensor) -> tuple[float, float]:
    if channel.dtype == torch.uint8:
        levels, weights = torch.arange(256, dtype=torch.float64) / 255, channel.flatten().bincount(minlength=256)
    else:
        levels, weights = channel.flatten().double(), torch.ones(channel.numel())
    mean = (levels * weights).sum() / weights.sum()
    variance = ((levels - mean).square() * weights).sum() / weights.sum()
    return float(mean), float(variance.sqrt()) or 1.0
