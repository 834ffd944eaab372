"""What a wiring was read from: it is read anew when one of these parts is another one."""

from collections.abc import Collection, Iterator, Sequence

import torch
from torch import nn

from spikewright.probing.hooks_of_others import HOOKS, hooks_on_gradient

Parts = tuple[Sequence[object], Sequence[object]]
"""Modules, parameters and what asks for their gradients; hooks and attributes."""

_INNER = frozenset(vars(nn.Module()))
"""What every module of torch has."""


def parts_of(module: nn.Module, notes: Collection[tuple[str, str]]) -> Parts:
    """Return the parts of a network.

    Args:
        module: The whole.
        notes: Attributes that a forward changes, and that do not matter: see `Wiring.notes`.
    """
    return _structure(module), list(_attributes(module, notes))


def is_as_before(before: Parts, module: nn.Module, notes: Collection[tuple[str, str]]) -> bool:
    """Whether all parts are the very same as then; a compiler looks after hooks and attributes itself."""
    if not _same(before[0], _structure(module)):
        return False
    return torch.compiler.is_compiling() or _same(before[1], list(_attributes(module, notes)))


def _structure(module: nn.Module) -> list[object]:
    parts: list[object] = [*module.modules(), *module.parameters()]
    return parts + [p.requires_grad for p in module.parameters()]


def _attributes(module: nn.Module, notes: Collection[tuple[str, str]]) -> Iterator[object]:
    for parameter in module.parameters():
        yield from hooks_on_gradient(parameter)
    for name, m in module.named_modules():
        own = vars(m)
        for kind in HOOKS:
            if own.get(kind):
                yield from own[kind].values()
        if (name, "*") not in notes:
            for key, value in own.items():
                if key not in _INNER and (name, key) not in notes:
                    yield key
                    yield value


def _same(before: Sequence[object], now: Sequence[object]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now))
