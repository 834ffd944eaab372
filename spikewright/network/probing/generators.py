"""Random numbers that modules draw past the operators of torch."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

Position = tuple[object, ...]
"""State of the generators of numpy and `random`."""


def position() -> Position:
    """Return the present state of the global generators of numpy and `random`."""
    _, key, *rest = np.random.get_state()
    return np.asarray(key).tobytes(), *rest, random.getstate()


class Movers:
    """Calls the forwards of modules, and notes those in which the generators of numpy or `random` move.

    Attributes:
        names: Names of these modules.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()

    @property
    def innermost(self) -> frozenset[str]:
        """Those of the modules that contain none of the others."""
        return frozenset(
            n for n in self.names if not any(o != n and (not n or o.startswith(f"{n}.")) for o in self.names)
        )

    def __call__(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = position()
        result = forward(*args, **kwargs)
        if position() != before:
            self.names.add(name)
        return result
