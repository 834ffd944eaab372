"""Overlapping frames of a recording, and the Hann window."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright._util.arguments import check_tensor
from spikewright.errors import InputError, ShapeError


def number_of_frames(samples: int, window: int, step: int) -> int:
    """Return how many frames cover a recording.

    Args:
        samples: Number of samples, at least 1.
        window: Samples of a frame, at least 1.
        step: Samples from the start of a frame to that of the next, at least 1.

    >>> number_of_frames(200, 200, 80), number_of_frames(201, 200, 80), number_of_frames(5, 200, 80)
    (1, 2, 1)
    """
    return 1 + max(0, math.ceil((samples - window) / step))


def framed(samples: Tensor, window: int, step: int) -> Tensor:
    """Return the frames of a recording, with zeros behind its end so that every sample is in one.

    Args:
        samples: Numbers, `[*lead, sample]`.
        window: Samples of a frame.
        step: Samples from the start of a frame to that of the next, at most `window`.

    Returns:
        A view where possible, `[*lead, frame, window]`.
    """
    frames = number_of_frames(samples.shape[-1], window, step)
    padded = F.pad(samples, (0, (frames - 1) * step + window - samples.shape[-1]))
    return padded.unfold(-1, window, step)


def hann(window: int, like: Tensor) -> Tensor:
    """Return a periodic Hann window, `0.5 - 0.5 cos(2 pi n / window)`, `[window]`.

    Args:
        window: Number of samples.
        like: Tensor whose type and device it has.
    """
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def check_samples(owner: str, samples: object) -> Tensor:
    """Return samples, or raise `ShapeError` or `InputError` unless they are finite real numbers `[*lead, sample]`."""
    check_tensor("samples", samples, "[channel, sample]")
    assert isinstance(samples, Tensor)
    if not samples.is_floating_point() or not samples.dim() or not samples.numel():
        raise ShapeError(
            f"{owner} got samples of {samples.dtype} {list(samples.shape)}. A recording is floating-point numbers, "
            "[channel, sample] or [sample], with at least one sample. Read a file with spikewright.sound.read_wav."
        )
    if not bool(samples.isfinite().all()):
        raise InputError(f"{owner} got samples with a NaN or an infinity, which no sound has. Leave the recording out.")
    return samples
