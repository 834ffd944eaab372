"""The parts of a network that its wiring depends on: when one is replaced, the network is probed again.

They are compared before every run, so the code is written for speed.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import is_
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright._util.contents import classes, contents
from spikewright.network.probing.hooks_of_others import HOOKS, hooks_on_all, hooks_on_gradient
from spikewright.network.wiring import Wiring

_INNER = frozenset(vars(nn.Module()))
"""Attributes of every module of torch."""
_ALL = "*"
_PLAIN = frozenset({bool, int, float, complex, str, bytes})
_LISTS = (list, tuple, set, frozenset, deque)
_ENTRIES, _DEPTH = 32, 3
"""Number of entries of a container that are compared, and depth of nested ones."""


@dataclass(frozen=True)
class Parts:
    """The present parts of a network.

    Attributes:
        modules: All modules.
        modes: Training mode of each module.
        parameters: All parameters, followed by the `requires_grad` of each.
    """

    modules: Sequence[nn.Module]
    modes: tuple[bool, ...]
    parameters: Sequence[object]

    @classmethod
    def of(cls, module: nn.Module) -> "Parts":
        """Return the parts of a network."""
        compiling = torch.compiler.is_compiling()
        modules = list(module.modules()) if compiling else _modules(module)
        modes = tuple([getattr(m, "training", False) for m in modules])  # frozen by TorchScript: no mode
        if compiling:
            parameters = list(module.parameters())
        else:
            parameters = list(dict.fromkeys([p for m in modules for p in m._parameters.values() if p is not None]))
        return cls(modules, modes, [*parameters, *[p.requires_grad for p in parameters]])

    def settings(self) -> dict[tuple[int, str], object]:
        """Return plain values inside objects that are attributes, by the module's identity and "attribute.name"."""
        return {
            (id(m), f"{key}.{name}"): x
            for m in self.modules
            for key, value in m.__dict__.items()
            if key not in _INNER
            for name, x in _settings_of(value).items()
        }

    def attributes(self, notes: Mapping[int, Collection[str]]) -> list[object]:
        """Return the hooks, buffers and attributes of modules and their classes, with entries of containers.

        A tensor that is not a parameter counts by its dtype and number of axes, because claims do not depend on values.

        Args:
            notes: Names of attributes to leave out, because a forward changes them, by the identity of their modules;
                "*" stands for all.
        """
        if torch.compiler.is_compiling():  # which checks them itself
            return []
        count = len(self.parameters) // 2
        found: list[object] = [hook for p in self.parameters[:count] for hook in hooks_on_gradient(p)]  # type: ignore
        found += hooks_on_all()
        kinds: dict[type, Collection[str]] = {}
        for m in self.modules:
            noted = notes.get(id(m), ())
            kinds[type(m)] = {*kinds.get(type(m), ()), *noted}
            found.append(type(m))
            own = m.__dict__
            for kind in HOOKS:
                if own.get(kind):
                    found += own[kind].values()
            if _ALL not in noted:
                for key, value in own.items():
                    if key not in _INNER and key not in noted:
                        _look_into(value, found)
                        found += [x for name, x in _settings_of(value).items() if f"{key}.{name}" not in noted]
                _look_at_buffers(m, noted, found)
        for kind, noted in kinds.items():
            for base in classes(kind):
                for key, value in vars(base).items():
                    if key not in noted and key[:2] != "__":
                        _look_into(value, found)
        return found


def _look_into(value: Any, found: list[object], depth: int = 0) -> None:
    kind = type(value)
    if kind in _PLAIN or value is None or kind is type:
        found.append(value)
    elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        found += (value.dtype, value.dim())
    elif depth < _DEPTH and (inner := _inside(value)) is not None:
        found.append(kind)
        for part in islice(inner, _ENTRIES):
            _look_into(part, found, depth + 1)
    else:
        found.append(value)


def _inside(value: Any) -> Iterator[object] | None:
    if isinstance(value, _LISTS):  # which may be long
        return iter(value)
    if isinstance(value, nn.Module | Tensor):
        return None
    inside = contents(value)
    return None if inside is None else chain.from_iterable(inside.items())


def _settings_of(value: Any) -> dict[str, object]:
    """Return the plain values of an object, by name, unless `_look_into` finds them."""
    held = getattr(value, "__dict__", None)
    if not held or callable(value) or isinstance(value, ModuleType) or contents(value) is not None:
        return {}
    return {name: x for name, x in islice(held.items(), _ENTRIES) if type(x) in _PLAIN or x is None}


def _look_at_buffers(module: nn.Module, noted: Collection[str], found: list[object]) -> None:
    if isinstance(module, _BatchNorm):  # a run changes these
        return
    for key, buffer in module._buffers.items():
        if key not in noted:
            _look_into(buffer, found)
            if buffer is not None and not buffer.dim() and not buffer.is_inference():  # a flag, for example
                found.append(buffer._version)


@dataclass(frozen=True)
class Reading:
    """A wiring, and the parts that it was read from.

    Attributes:
        wiring: The wiring.
        parts: Parts of the network at that time.
        notes: `Wiring.notes` by the identity of the module.
        attributes: Hooks and attributes of the modules.
        times: Number of earlier readings.
    """

    wiring: Wiring
    parts: Parts
    notes: Mapping[int, Collection[str]]
    attributes: Sequence[object]
    times: int

    @classmethod
    def of(
        cls, module: nn.Module, parts: Parts, wiring: Wiring, times: int, moved: Iterable[tuple[int, str]]
    ) -> "Reading":
        """Return a reading; `moved` are further attributes that a forward changed."""
        notes: dict[int, set[str]] = {}
        for owner, key in moved:
            notes.setdefault(owner, set()).add(key)
        for name, key in wiring.notes:
            notes.setdefault(id(module.get_submodule(name)), set()).add(key)
        return cls(wiring, parts, notes, parts.attributes(notes), times)

    def is_of(self, parts: Parts) -> bool:
        """True if the parts of the network are still the same."""
        if not (_same(self.parts.modules, parts.modules) and _same(self.parts.parameters, parts.parameters)):
            return False
        return torch.compiler.is_compiling() or _same(self.attributes, parts.attributes(self.notes))

    def changed_attribute(self, module: nn.Module) -> str:
        """Return the name of an attribute that has changed, or what else may have."""
        known = set(map(id, self.attributes))
        for name, m in module.named_modules():
            noted = self.notes.get(id(m), ())
            for key, value in m.__dict__.items() if _ALL not in noted else ():
                found: list[object] = []
                if key not in _INNER and key not in noted:
                    _look_into(value, found)
                if any(id(x) not in known for x in found):
                    return f"{name}.{key}" if name else key
        return "a module, a parameter or a hook"


def _same(before: Sequence[object], now: Sequence[object]) -> bool:
    if len(before) != len(now):
        return False
    return all(map(is_, before, now)) or all(map(_alike, before, now))


def _alike(a: object, b: object) -> bool:
    return a is b or (type(a) is type(b) and type(a) in _PLAIN and a == b)


def _modules(module: nn.Module) -> list[nn.Module]:
    """Return a module and all inside it, in the order of `modules()`."""
    found: dict[int, nn.Module] = {}
    todo = [module]
    while todo:
        m = todo.pop()
        if id(m) not in found:
            found[id(m)] = m
            inner = m._modules
            if inner:
                todo += [child for child in reversed(list(inner.values())) if child is not None]
    return list(found.values())
