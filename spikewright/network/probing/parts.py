"""What a wiring was read from: it is read anew when one of these parts is another one.

Looked at before every run, so it is written for speed.
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
"""What every module of torch has."""
_ALL = "*"
_PLAIN = frozenset({bool, int, float, complex, str, bytes})
_LISTS = (list, tuple, set, frozenset, deque)
_ENTRIES, _DEPTH = 32, 3
"""How many entries of a container are looked at, and of how many inside one another."""


@dataclass(frozen=True)
class Parts:
    """The parts of a network as they are now.

    Attributes:
        modules: All of them.
        modes: Whether they are in training mode.
        parameters: Parameters, and what asks for their gradients.
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
        """Return what objects hold that modules have as attributes, by the module's identity and "attribute.name"."""
        return {
            (id(m), f"{key}.{name}"): x
            for m in self.modules
            for key, value in m.__dict__.items()
            if key not in _INNER
            for name, x in _settings_of(value).items()
        }

    def attributes(self, notes: Mapping[int, Collection[str]]) -> list[object]:
        """Return the hooks, buffers and attributes of modules and their classes, with what is in their containers.

        Of a tensor that is no parameter, its type stands for it: what is claimed depends on no values.

        Args:
            notes: Names of attributes that a forward changes, and that do not matter, by the identity of their modules;
                "*" stands for all.
        """
        if torch.compiler.is_compiling():  # which looks after them itself
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
    """Return the plain values that an object holds, by name, unless `_look_into` finds them by itself."""
    held = getattr(value, "__dict__", None)
    if not held or callable(value) or isinstance(value, ModuleType) or contents(value) is not None:
        return {}
    return {name: x for name, x in islice(held.items(), _ENTRIES) if type(x) in _PLAIN or x is None}


def _look_at_buffers(module: nn.Module, noted: Collection[str], found: list[object]) -> None:
    if isinstance(module, _BatchNorm):  # a run moves these
        return
    for key, buffer in module._buffers.items():
        if key not in noted:
            _look_into(buffer, found)
            if buffer is not None and not buffer.dim() and not buffer.is_inference():  # a flag, for example
                found.append(buffer._version)


@dataclass(frozen=True)
class Reading:
    """A wiring, and what it was read from.

    Attributes:
        wiring: What was read.
        parts: Of the network, as they were.
        notes: `Wiring.notes` by the identity of the module.
        attributes: Hooks and attributes of the modules.
        times: How many times a wiring was read before.
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
        """Note down what a wiring was read from; `moved` are attributes that a forward changed besides."""
        notes: dict[int, set[str]] = {}
        for owner, key in moved:
            notes.setdefault(owner, set()).add(key)
        for name, key in wiring.notes:
            notes.setdefault(id(module.get_submodule(name)), set()).add(key)
        return cls(wiring, parts, notes, parts.attributes(notes), times)

    def is_of(self, parts: Parts) -> bool:
        """Whether the parts of the network are still the very same."""
        if not (_same(self.parts.modules, parts.modules) and _same(self.parts.parameters, parts.parameters)):
            return False
        return torch.compiler.is_compiling() or _same(self.attributes, parts.attributes(self.notes))

    def changed_attribute(self, module: nn.Module) -> str:
        """Return the name of an attribute that is not what it was, if it is one."""
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
