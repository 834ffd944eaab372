"""Random numbers that modules draw by themselves, past the operators of torch."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

Position = tuple[object, ...]
"""Where the generators of numpy and of `random` stand."""


def position() -> Position:
    """Return where the generators that `numpy.random` and `random` draw from stand now."""
    _, key, *rest = np.random.get_state()
    return np.asarray(key).tobytes(), *rest, random.getstate()


class Movers:
    """Calls the forwards of modules in their place, and notes the modules during whose forward those generators move.

    Attributes:
        names: The names of these modules.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()

    @property
    def innermost(self) -> frozenset[str]:
        """Those of the names that have none of the others inside."""
        return frozenset(
            n for n in self.names if not any(o != n and (not n or o.startswith(f"{n}.")) for o in self.names)
        )

    def __call__(self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        before = position()
        result = forward(*args, **kwargs)
        if position() != before:
            self.names.add(name)
        return result
