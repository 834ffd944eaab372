"""What a wiring was read from: it is read anew when one of these parts is another one.

Looked at before every run, so it is written for speed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import is_

import torch
from torch import nn

from spikewright.probing.hooks_of_others import HOOKS, hooks_on_gradient
from spikewright.wiring import Wiring

_INNER = frozenset(vars(nn.Module()))
"""What every module of torch has."""
ALL = "*"


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

    def attributes(self, notes: Mapping[int, Collection[str]]) -> list[object]:
        """Return the hooks and attributes of the modules.

        Args:
            notes: Names of attributes that a forward changes, and that do not matter, by the identity of their modules;
                "*" stands for all.
        """
        if torch.compiler.is_compiling():  # which looks after them itself
            return []
        count = len(self.parameters) // 2
        found = [hook for p in self.parameters[:count] for hook in hooks_on_gradient(p)]  # type: ignore[arg-type]
        for m in self.modules:
            own, noted = m.__dict__, notes.get(id(m), ())
            for kind in HOOKS:
                if own.get(kind):
                    found += own[kind].values()
            if ALL not in noted:
                found += [x for key, x in own.items() if key not in _INNER and key not in noted]
        return found


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
    def of(cls, module: nn.Module, parts: Parts, wiring: Wiring, times: int) -> "Reading":
        """Note down what a wiring was read from."""
        notes: dict[int, set[str]] = {}
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
            for key, x in m.__dict__.items() if ALL not in noted else ():
                if not (key in _INNER or key in noted or id(x) in known):
                    return f"{name}.{key}" if name else key
        return "a module, a parameter or a hook"


def _same(before: Sequence[object], now: Sequence[object]) -> bool:
    return len(before) == len(now) and all(map(is_, before, now))


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
