"""What the benchmark needs of a peer."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

TAU = 2.0
"""Time constant of every neuron: leak 1/2, which every peer can express without rounding."""
ALPHA = 4.0
"""Of every surrogate: the slope of the logistic function of 4x."""


class Peer(Protocol):
    """A library with a leaky integrate-and-fire neuron: leak 1/2, threshold 1, soft reset, input not scaled.

    Surrogate slope that of `Sigmoid(4.0)`, and the reset kept out of the backward pass, where the library can.
    """

    @property
    def name(self) -> str:
        """As people write it."""
        ...

    @property
    def distribution(self) -> str:
        """As it is installed."""
        ...

    @property
    def written_for(self) -> str:
        """The version this was written for."""
        ...

    @property
    def batch_first(self) -> bool:
        """Whether sequences are `[batch, time, *feature]` instead of `[time, batch, *feature]`."""
        ...

    @property
    def differs(self) -> str:
        """What keeps its gradient from being ours; empty if nothing does."""
        ...

    def neuron(self) -> Callable[[Tensor], Tensor]:
        """Return a map of the current of a whole sequence, from rest, to spikes.

        Raises:
            ImportError: The library is not installed, or something it imports is not.
        """
        ...


def load(distribution: str, *modules: str) -> list[Any]:
    """Import modules of a peer, whatever they warn of.

    Raises:
        ImportError: In one sentence, what is missing.
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
