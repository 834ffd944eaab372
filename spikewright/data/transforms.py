"""Random augmentation of batches of training images.

Every transform takes images `[n, C, H, W]`, uint8 (0 to 255) or floating-point (0 to 1), and a generator, and returns
new images of the same shape and type. Each image is changed independently.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

from spikewright._util.ranges import check_known

Transform = Callable[[Tensor, Generator], Tensor]


def random_crop(images: Tensor, generator: Generator, pad: int = 4) -> Tensor:
    """Shift each image by up to `pad` pixels in both directions, with zeros at the border.

    Args:
        images: uint8 or floating-point. Shape `[n, C, H, W]`.
        generator: `torch.Generator` on the CPU.
        pad: Largest shift in pixels, at least 0. Default: 4.
    """
    n, _, height, width = images.shape
    padded = functional.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    cropped = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()


def shift(images: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to one pixel in both directions.

    Improves the generalisation of networks without convolutions.

    Args:
        images: uint8 or floating-point. Shape `[n, C, H, W]`.
        generator: `torch.Generator` on the CPU.
    """
    return random_crop(images, generator, pad=1)


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2.

    Args:
        images: uint8 or floating-point. Shape `[n, C, H, W]`.
        generator: `torch.Generator` on the CPU.
    """
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def cutout(images: Tensor, generator: Generator, p: float = 0.5) -> Tensor:
    """Fill a random box of each image with probability `p`, as in the published OTTT and SLTT results.

    The box covers 2 to 40 % of the image with a height-to-width ratio of 0.4 to 2.5, sides rounded down, at a uniform
    position inside. It is filled with the colour (c, 0, 0), c uniform in 0 to 255: red in a colour image, grey in a
    grey one.

    Args:
        images: uint8 or floating-point. Shape `[n, C, H, W]`.
        generator: `torch.Generator` on the CPU.
        p: Probability that an image is changed, in [0, 1]. Default: 0.5.

    Reference:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020, in the variant of Xiao et al. (OTTT, NeurIPS 2022)
        and Meng et al. (SLTT, ICCV 2023).
    """
    n, _, height, width = images.shape
    chosen, area, ratio, y, x = torch.rand(5, n, generator=generator)
    area = (0.02 + 0.38 * area) * height * width
    ratio = 0.4 + 2.1 * ratio
    tall, wide = (area * ratio).sqrt().floor().clamp(max=height), (area / ratio).sqrt().floor().clamp(max=width)
    inside_rows = _within(height, (y * (height - tall + 1)).floor(), tall)
    inside_columns = _within(width, (x * (width - wide + 1)).floor(), wide)
    box = (chosen < p)[:, None, None] & inside_rows[:, :, None] & inside_columns[:, None, :]
    return torch.where(box[:, None], _red(images, generator), images)


def _within(length: int, start: Tensor, size: Tensor) -> Tensor:
    """Return the positions from `start` on, `size` of them, bool `[n, length]`."""
    position = torch.arange(length)
    return (position >= start[:, None]) & (position < (start + size)[:, None])


def _red(images: Tensor, generator: Generator) -> Tensor:
    level = torch.randint(0, 256, (len(images),), generator=generator)
    colour = images.new_zeros(len(images), images.shape[1], 1, 1)
    colour[:, 0, 0, 0] = (level / 255 if images.is_floating_point() else level).to(images.dtype)
    return colour


AUGMENTATIONS: dict[str, tuple[Transform, ...]] = {
    "none": (),
    "shift": (shift,),
    "crop": (random_crop,),
    "crop-flip": (random_crop, random_flip),
    "ottt-cifar": (random_crop, cutout, random_flip),
}


def augmentation(name: str) -> Transform:
    """Return the transform of an augmentation, its steps in order.

    Args:
        name: "none", "shift", "crop", "crop-flip" or "ottt-cifar".

    Raises:
        ConfigError: The name is unknown.
    """
    check_known("The augmentation", name, AUGMENTATIONS)
    steps = AUGMENTATIONS[name]

    def apply(images: Tensor, generator: Generator) -> Tensor:
        for step in steps:
            images = step(images, generator)
        return images

    return apply
