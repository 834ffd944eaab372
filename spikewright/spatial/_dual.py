"""Spikes with noise as dual numbers: operations act on both, until the noise is added at the next weight."""

import importlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.autograd import forward_ad
from torch.backends import cuda

_FORMULAS = "torch._decomp.decompositions_for_jvp"
"""The module that PyTorch imports when the first dual number is created."""


class _Levels:
    def __init__(self) -> None:
        self.lock = threading.RLock()


_LEVELS = _Levels()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_LEVELS.__init__)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Make PyTorch compute attention by operations that support dual numbers, on all devices."""
    before = (
        cuda.math_sdp_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
    )
    _choose_attention(True, False, False, False)
    try:
        yield
    finally:
        _choose_attention(*before)


def _choose_attention(math: bool, flash: bool, efficient: bool, cudnn: bool) -> None:
    cuda.enable_math_sdp(math)
    cuda.enable_flash_sdp(flash)
    cuda.enable_mem_efficient_sdp(efficient)
    cuda.enable_cudnn_sdp(cudnn)


@contextmanager
def level() -> Iterator[None]:
    """Enable dual numbers for a while, for one thread at a time: PyTorch has one level per process."""
    if _FORMULAS not in sys.modules:
        with warnings.catch_warnings():  # torch warns about itself
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module(_FORMULAS)
    with _LEVELS.lock, forward_ad.dual_level(), _plain_attention():
        yield


def attach_noise(x: Tensor, noise: Tensor) -> Tensor:
    """Return `x` with noise of the same shape as its tangent."""
    return forward_ad.make_dual(x, noise)


def split_noise(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return `x` without its noise, and the sum of both, or `None` without noise.

    The noise has no graph: parameters that it has passed learn from the clean signal, as weights do.
    """
    clean, noise = forward_ad.unpack_dual(x)
    return (x, None) if noise is None else (clean, clean + noise.detach())


def add_noise(x: Tensor) -> Tensor:
    """Return `x` plus its noise, if there is any."""
    clean, noisy = split_noise(x)
    return clean if noisy is None else noisy
