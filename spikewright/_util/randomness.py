"""One generator per random decision, named by what is decided."""

import zlib
from numbers import Integral

import numpy as np
import torch

from spikewright.errors import InputError


def keyed_generator(seed: int, *key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator whose numbers depend on `seed` and `key` alone.

    Different keys give independent streams, so a run that is resumed, or split over processes, draws what the
    uninterrupted run would have drawn.

    Args:
        seed: Seed of the run, 0 or more.
        *key: Names and whole numbers, 0 or more, that tell decisions apart: layer, epoch, batch, ...
        device: Device of the generator.

    Raises:
        InputError: The seed or a part of the key is negative, or no whole number.

    >>> first, again = keyed_generator(7, 3, 1), keyed_generator(7, 3, 1)
    >>> torch.rand(2, generator=first).tolist() == torch.rand(2, generator=again).tolist()
    True
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    if not all(isinstance(number, Integral) and number >= 0 for number in (seed, *words)):
        raise InputError(
            f"Random numbers were asked for with seed={seed} and key={key}, and one of them is no whole number from 0. "
            "Streams are numbered from 0; give seeds and epochs of 0 or more."
        )
    state = np.random.SeedSequence(seed, spawn_key=words).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))
