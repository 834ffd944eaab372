"""Contents of modules beside the values of parameters, and changes of them."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright._util.contents import classes, contents, of_class
from spikewright._util.snapshot import same_bits

Place = tuple[str, str]
"""Name of a module, and of its attribute or buffer."""
Held = dict[Place, list[object]]
"""All values at each place, in one list."""

_APART = frozenset(vars(nn.Module())) | {"_c"}  # attributes of every module of torch


def held(module: nn.Module, apart: frozenset[str] = frozenset()) -> Held:
    """Return the contents of modules: buffers, attributes, those of their classes, and entries of containers.

    Args:
        module: Module, with all its submodules.
        apart: Names of modules to leave out.
    """
    found: Held = {}
    for name, m in module.named_modules():
        for key, value in () if name in apart else _own(m).items():
            found[name, key] = list(_values(value, {id(m)}))
    return found


def moved(before: Held, after: Held) -> frozenset[Place]:
    """Return the places whose contents differ."""
    return frozenset(place for place in {**before, **after} if not _all_equal(before.get(place), after.get(place)))


def set_ahead(module: nn.Module, before: Held, after: Held, places: frozenset[Place], calls: int) -> bool:
    """Add to changing numbers the change of as many calls; return True if there are such numbers.

    Args:
        module: The network's module.
        before: Contents before a call.
        after: Contents after it.
        places: Places where these differ.
        calls: Number of calls.
    """
    found = False
    for name, key in places:
        owner: Any = module.get_submodule(name)
        then, now = before.get((name, key), []), after.get((name, key), [])
        if len(then) != len(now) or key not in (own := _own(owner)):
            continue
        for leaf, a, b in zip(list(_leaves(own[key], {id(owner)}, partial(_set, owner, key))), then, now):
            value: Any = leaf.value
            if leaf.put is None or type(a) is not type(b):
                continue
            if isinstance(value, Tensor) and _are_numbers(value, a, b):
                value.data = value.data + (calls * (b - a)).to(value.dtype)  # type: ignore[operator]
                found = True
            elif type(value) is type(a) and type(a) in (int, float) and a != b:
                leaf.put(value + calls * (b - a))  # type: ignore[operator]
                found = True
    return found


def add_one(module: nn.Module, places: Collection[Place]) -> None:
    """Add one to the real numbers in some tensors."""
    for name, key in places:
        value = _own(module.get_submodule(name)).get(key)
        if isinstance(value, Tensor) and value.is_floating_point():
            value.data = value.data + 1


def _are_numbers(value: Tensor, *others: Any) -> bool:
    return all(isinstance(x, Tensor) and x.shape == value.shape and x.dtype != torch.bool for x in (value, *others))


def _own(module: nn.Module) -> dict[str, Any]:
    """Return the contents of a module without those of its submodules, by name."""
    values = {str(k): x for k, x in (contents(module) or {}).items() if isinstance(k, str) and k not in _APART}
    shared = {name: x for base in classes(type(module)) for name, x in of_class(base).items()}
    own = {name: x for name, x in values.items() if not isinstance(x, nn.Module | nn.Parameter)}
    attached = {name: vars(p) for name, p in module._parameters.items() if p is not None and vars(p)}
    return {**shared, **own, **dict(module.named_buffers(recurse=False)), **attached}


def _set(module: Any, name: str, value: object) -> None:
    if name in vars(module) or hasattr(module, "_c"):
        setattr(module, name, value)
        return
    owner = next(base for base in classes(type(module)) if name in of_class(base))
    setattr(owner, name, value)


@dataclass(frozen=True)
class _Leaf:
    """A value, and a function that replaces it, if it can be replaced."""

    value: object
    put: Callable[[Any], object] | None = None


def _leaves(value: Any, seen: set[int], put: Callable[[Any], object] | None = None) -> Iterator[_Leaf]:
    if isinstance(value, Tensor):
        yield _Leaf(value, put)
        return
    inside = contents(value)
    if inside is None:
        yield _Leaf(value, put)
    elif id(value) not in seen:
        seen.add(id(value))
        yield _Leaf(len(inside))
        for key, inner in inside.items():
            if not (isinstance(value, nn.Module) and key in _APART):
                yield _Leaf(key)
                yield from _leaves(inner, seen, _putting(value, key))


def _putting(value: Any, key: Any) -> Callable[[Any], object] | None:
    if isinstance(value, dict | list | deque):
        return partial(value.__setitem__, key)
    return None if isinstance(value, tuple | set | nn.Module) else partial(object.__setattr__, value, key)


def _values(value: Any, seen: set[int]) -> Iterator[object]:
    for leaf in _leaves(value, seen):
        x: Any = leaf.value
        if isinstance(x, Tensor):
            yield None if isinstance(x, nn.Parameter) or x.is_meta else x.detach().clone()
        else:
            yield x.copy() if isinstance(x, np.ndarray) else x


def _all_equal(one: list[object] | None, other: list[object] | None) -> bool:
    return one is not None and other is not None and len(one) == len(other) and all(map(_equal, one, other))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same_bits(a, b)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return a is b or (isinstance(a, str | int | float | complex) and type(a) is type(b) and a == b)
