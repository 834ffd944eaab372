"""What modules hold between calls, to tell which of them a forward changes."""

from collections import deque
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Held = dict[str, list[object]]
"""By the name of a module, all that it holds, in one list."""

_APART = frozenset({"training", "_parameters", "_modules", "_non_persistent_buffers_set"})


def held(module: nn.Module, apart: frozenset[str] = frozenset()) -> Held:
    """Return what modules hold beside parameters: buffers, attributes, and what is in their containers.

    Args:
        module: With all its submodules.
        apart: Names of modules that are left out.
    """
    return {name: list(_values(m, set())) for name, m in module.named_modules() if name not in apart}


def moved(before: Held, after: Held) -> frozenset[str]:
    """Return the names of the modules that do not hold the same any more."""
    return frozenset(name for name in after if not _all_equal(before.get(name, []), after[name]))


def _values(value: Any, seen: set[int]) -> Iterator[object]:
    if isinstance(value, Tensor | nn.Parameter):
        yield None if isinstance(value, nn.Parameter) or value.is_meta else value.detach().clone()
    elif isinstance(value, np.ndarray):
        yield value.copy()
    elif id(value) in seen:
        return
    elif isinstance(value, dict | list | tuple | set | deque):
        seen.add(id(value))
        yield len(value)
        yield from (list(value) if isinstance(value, dict | set) else ())
        for inner in value.values() if isinstance(value, dict) else () if isinstance(value, set) else value:
            yield from _values(inner, seen)
    elif isinstance(value, nn.Module | SimpleNamespace) or (is_dataclass(value) and not isinstance(value, type)):
        seen.add(id(value))
        for key, inner in vars(value).items() if hasattr(value, "__dict__") else ():
            if key not in _APART or not isinstance(value, nn.Module):
                yield key
                yield from _values(inner, seen)
    else:
        yield value


def _all_equal(one: list[object], other: list[object]) -> bool:
    return len(one) == len(other) and all(map(_equal, one, other))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or (isinstance(a, str | int | float | complex) and type(a) is type(b) and a == b)
