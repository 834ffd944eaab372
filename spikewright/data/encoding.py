"""Encodings of a static image as a sequence."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.ranges import MOST, check_count, check_instance, check_known
from spikewright.errors import InputError


class Encoding(ABC):
    """Base class of encodings: images `[batch, C, H, W]` become inputs `[time, batch, C, H, W]`."""

    normalised: bool
    """True for images with zero mean and unit standard deviation, False for intensities from 0 to 1."""

    @abstractmethod
    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        """Return the input sequence of a batch of images, `[time, batch, C, H, W]`, with their type and device.

        Args:
            images: Floating-point images, normalised or in [0, 1] as `normalised` says. Shape `[batch, C, H, W]`.
            steps: Number of time steps, at least 1.
            generator: `torch.Generator` of all random numbers, on the CPU.
        """


class ConstantCurrent(Encoding):
    """The encoding "direct": the normalised image as the same input current at every time step.

    The time steps are views of one tensor, so they take no memory and must not be written to.
    """

    normalised = True

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        check_tensor("images", images, "[batch, C, H, W]")
        check_count("ConstantCurrent", "steps", steps, "an input has at least one time step", most=MOST)
        return images.expand(steps, *images.shape)


class Poisson(Encoding):
    """The encoding "poisson": at each time step an independent spike with the intensity of the pixel as probability.

    Raises:
        InputError: When called with an intensity outside [0, 1].
    """

    normalised = False

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        _check_intensities(images, "poisson")
        check_count("Poisson", "steps", steps, "an input has at least one time step", most=MOST)
        check_instance("Poisson", "generator", generator, Generator, "torch.Generator()")
        draws = torch.rand(steps, *images.shape, generator=generator).to(images.device)
        return (draws < images).to(images.dtype)


class Latency(Encoding):
    """The encoding "latency": one spike per pixel, at time step `round((1 - intensity) (steps - 1))`.

    Raises:
        InputError: When called with an intensity outside [0, 1].
    """

    normalised = False

    def __call__(self, images: Tensor, steps: int, generator: Generator) -> Tensor:
        _check_intensities(images, "latency")
        check_count("Latency", "steps", steps, "an input has at least one time step", most=MOST)
        moment = ((1 - images) * (steps - 1)).round()
        step = torch.arange(steps, device=images.device).view(-1, *[1] * images.dim())
        return (step == moment).to(images.dtype)


ENCODINGS: dict[str, type[Encoding]] = {"direct": ConstantCurrent, "poisson": Poisson, "latency": Latency}


def encoding(name: str) -> Encoding:
    """Return an encoding by name.

    Args:
        name: "direct", "poisson" or "latency".

    Raises:
        ConfigError: The name is unknown.
    """
    check_known("The encoding", name, ENCODINGS)
    return ENCODINGS[name]()


def _check_intensities(images: Tensor, name: str) -> None:
    check_tensor("images", images, "[batch, C, H, W]")
    if not images.numel():
        return
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise InputError(
            f"The encoding '{name}' got images with intensities from {float(low):g} to {float(high):g}. It turns an "
            "intensity into a probability or a time step, so all must lie between 0 and 1. Give images on that scale, "
            "not normalised, or use 'direct'."
        )
