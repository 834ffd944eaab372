"""Encodings: what a network receives at each time step when it is shown a still image."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from spikewright.errors import ConfigError, InputError, nearest


class Encoding(ABC):
    """Turns images `[batch, C, H, W]` into inputs `[time, batch, C, H, W]`."""

    normalised: bool
    """Whether images come with zero mean and unit deviation (True) or with intensities from 0 to 1 (False)."""

    @abstractmethod
    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        """Return `steps` inputs for each image.

        Args:
            images: float `[batch, C, H, W]`.
            steps: Number of time steps.
            generator: Source of all draws, on the CPU wherever the images are.

        Returns:
            `[time, batch, C, H, W]`, in the type and on the device of `images`.
        """


class ConstantCurrent(Encoding):
    """The normalised image itself at every step: a constant input current; the first layer makes the spikes.

    The steps are one tensor seen `steps` times, so they take no memory and must not be written to.
    """

    normalised = True

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        return images.expand(steps, *images.shape)


class Poisson(Encoding):
    """A spike at each step with the probability given by the intensity, independently of all others.

    Raises:
        InputError: On use, if an intensity is not between 0 and 1.
    """

    normalised = False

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        _check_intensities(images, "poisson")
        draws = torch.rand(steps, *images.shape, generator=generator).to(images.device)
        return (draws < images).to(images.dtype)


class Latency(Encoding):
    """One spike per pixel, the brighter the earlier: full intensity at the first step, none at the last.

    Raises:
        InputError: On use, if an intensity is not between 0 and 1.
    """

    normalised = False

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        _check_intensities(images, "latency")
        moment = ((1 - images) * (steps - 1)).round()
        step = torch.arange(steps, device=images.device).view(-1, *[1] * images.dim())
        return (step == moment).to(images.dtype)


ENCODINGS: dict[str, type[Encoding]] = {"direct": ConstantCurrent, "poisson": Poisson, "latency": Latency}


def encoding(name: str) -> Encoding:
    """Return the encoding of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in ENCODINGS:
        raise ConfigError(f"The encoding '{name}' is unknown. {nearest(name, ENCODINGS)}")
    return ENCODINGS[name]()


def _check_intensities(images: Tensor, name: str) -> None:
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"The encoding '{name}' got images with intensities from {float(low):g} to {float(high):g}. It turns an "
            "intensity into a probability or a moment, so all must lie between 0 and 1. Give images on that scale, "
            "not normalised, or use 'direct'."
        )
