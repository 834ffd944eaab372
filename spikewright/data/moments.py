"""Mean and standard deviation of image channels."""

import math

import torch
from torch import Tensor

from spikewright.errors import InputError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def channel_statistics(images: Tensor) -> Statistics:
    """Return mean and standard deviation of each channel, on the scale 0 to 1.

    A channel that never changes gets the standard deviation 1.0, so that dividing by it is harmless.

    Args:
        images: uint8 (0 to 255) or floating-point (0 to 1), with at least one pixel. Shape `[n, C, H, W]`.

    Returns:
        C means, and C standard deviations over all pixels (population form).

    Raises:
        InputError: `images` has no pixel, or holds a NaN or an infinity.

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    if not images.numel():
        raise InputError(
            f"The mean and deviation of the channels of images {list(images.shape)} ([n, C, H, W]) were asked for, but "
            "there is no pixel to take them of. Give at least one image."
        )
    moments = [_moments(*_levels(images[:, channel])) for channel in range(images.shape[1])]
    means, deviations = zip(*moments)
    return tuple(means), tuple(deviations)


def _levels(channel: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values of a channel, and the share of its pixels that has each."""
    if channel.dtype == torch.uint8:
        counts = channel.flatten().bincount(minlength=256)
        present = counts.nonzero().flatten()
        return present.double() / 255, counts[present].double() / channel.numel()
    values = channel.flatten().double()
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise InputError(
            f"The mean and deviation of images were asked for, but {wrong} of {len(values)} values of a channel are "
            "NaN or infinite. One such value spoils both. Remove or repair these images."
        )
    return values, torch.full_like(values, 1 / len(values))


def _moments(values: Tensor, shares: Tensor) -> tuple[float, float]:
    """Return mean and deviation, found on the scale from the lowest value to the highest, where nothing vanishes."""
    low, high = (float(x) for x in values.aminmax())
    if low == high:
        return low, 1.0
    span = high - low
    if math.isinf(span):
        mean, deviation = _moments(values / 4, shares)
        return 4 * mean, 4 * deviation
    places = (values - low) / span
    mean = (places * shares).sum()
    variance = ((places - mean).square() * shares).sum()
    return low + span * float(mean), span * float(variance.sqrt())
