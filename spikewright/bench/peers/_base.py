"""Interface of another spiking library."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

TAU = 2.0
"""Time constant of every neuron: decay 1/2, which every library represents exactly."""
ALPHA = 4.0
"""Sharpness of every surrogate, the slope of the logistic function of 4x."""


class Peer(Protocol):
    """A library with leaky integrate-and-fire neurons: decay 1/2, threshold 1, soft reset, input not scaled.

    The surrogate slope is that of `Sigmoid(4.0)`, and the reset is detached, where the library supports it.
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def distribution(self) -> str:
        """Name of the distribution to install."""
        ...

    @property
    def written_for(self) -> str:
        """Version that this adapter was written for."""
        ...

    @property
    def batch_first(self) -> bool:
        """True for sequences `[batch, time, *feature]`, False for `[time, batch, *feature]`."""
        ...

    @property
    def differs(self) -> str:
        """Reason why its gradient differs from ours; empty if it does not."""
        ...

    def neuron(self) -> Callable[[Tensor], Tensor]:
        """Return a function from the current of a whole sequence to spikes, starting at rest.

        Raises:
            ImportError: The library, or a module it imports, is not installed.
        """
        ...


def load(distribution: str, *modules: str) -> list[Any]:
    """Import modules of a library without their warnings.

    Raises:
        ImportError: A module is not installed; the message says which.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(module) for module in modules]
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] == modules[0].partition(".")[0] == missing:
            raise ImportError(f"{distribution} is not installed") from error
        raise ImportError(f"{distribution} needs the module '{missing}', which is not installed") from error
