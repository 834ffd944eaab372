"""What the modules of a network hold beside the values of parameters, and which of it a forward changes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.contents import classes, contents, of_class
from spikewright.snapshot import same_bits

Place = tuple[str, str]
"""Name of a module, and of what it holds."""
Held = dict[Place, list[object]]
"""By place, all that is held there, in one list."""

_APART = frozenset({"training", "_parameters", "_modules", "_buffers", "_non_persistent_buffers_set", "_c"})


def held(module: nn.Module, apart: frozenset[str] = frozenset()) -> Held:
    """Return what modules hold: buffers, attributes, those of their classes, and what is in their containers.

    Args:
        module: With all its submodules.
        apart: Names of modules that are left out.
    """
    found: Held = {}
    for name, m in module.named_modules():
        for key, value in () if name in apart else _own(m).items():
            found[name, key] = list(_values(value, {id(m)}))
    return found


def moved(before: Held, after: Held) -> frozenset[Place]:
    """Return the places that do not hold the same any more."""
    return frozenset(place for place in {**before, **after} if not _all_equal(before.get(place), after.get(place)))


def set_ahead(module: nn.Module, before: Held, after: Held, places: frozenset[Place], calls: int) -> bool:
    """Move numbers on, as so many calls would that change them as one has; return whether there were any.

    Args:
        module: The whole.
        before: What it held before a call.
        after: What it held after it.
        places: Where that differs.
        calls: How many.
    """
    found = False
    for place in places:
        name, key = place
        owner: Any = module.get_submodule(name)
        value = _own(owner).get(key)
        if not isinstance(value, bool) and isinstance(value, int | float):
            (then,), (now,) = before.get(place, [value]), after.get(place, [value])
            if type(then) is type(now) is type(value):
                _set(owner, key, value + calls * (now - then))  # type: ignore[operator]
                found = True
        elif isinstance(value, Tensor) and before.get(place) and after.get(place):
            step: Any = after[place][0], before[place][0]
            if all(isinstance(x, Tensor) and x.shape == value.shape and x.dtype != torch.bool for x in step):
                value.data = value.data + (calls * (step[0] - step[1])).to(value.dtype)
                found = True
    return found


def _own(module: nn.Module) -> dict[str, Any]:
    """Return what a module holds by itself, by name."""
    values = {str(k): x for k, x in (contents(module) or {}).items() if isinstance(k, str) and k not in _APART}
    shared = {name: x for base in classes(type(module)) for name, x in of_class(base).items()}
    own = {name: x for name, x in values.items() if not isinstance(x, nn.Module | nn.Parameter)}
    return {**shared, **own, **dict(module.named_buffers(recurse=False))}


def _set(module: Any, name: str, value: object) -> None:
    if name in vars(module) or hasattr(module, "_c"):
        setattr(module, name, value)
        return
    owner = next(base for base in classes(type(module)) if name in of_class(base))
    setattr(owner, name, value)


def _values(value: Any, seen: set[int]) -> Iterator[object]:
    if isinstance(value, Tensor):
        yield None if isinstance(value, nn.Parameter) or value.is_meta else value.detach().clone()
    elif isinstance(value, np.ndarray):
        yield value.copy()
    elif id(value) in seen:
        return
    elif (inside := contents(value)) is not None:
        seen.add(id(value))
        yield len(inside)
        for key, inner in inside.items():
            if not (isinstance(value, nn.Module) and key in _APART):
                yield key
                yield from _values(inner, seen)
    else:
        yield value


def _all_equal(one: list[object] | None, other: list[object] | None) -> bool:
    return one is not None and other is not None and len(one) == len(other) and all(map(_equal, one, other))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_bits(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or (isinstance(a, str | int | float | complex) and type(a) is type(b) and a == b)
