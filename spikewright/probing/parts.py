"""What a wiring was read from: it is read anew when one of these parts is another one."""

from collections.abc import Collection, Iterable, Iterator
from itertools import zip_longest

from torch import nn

from spikewright.probing.hooks_of_others import HOOKS, hooks_on_gradient

_INNER = frozenset(vars(nn.Module()))
"""What every module of torch has."""


def parts_of(module: nn.Module, notes: Collection[tuple[str, str]] = ()) -> Iterator[object]:
    """Yield modules, parameters and what asks for their gradients, hooks, and attributes.

    Args:
        module: The whole.
        notes: Attributes that a forward changes, and that do not matter: see `Wiring.notes`.
    """
    for name, m in module.named_modules():
        yield m
        for p in m.parameters(recurse=False):
            yield p
            yield p.requires_grad
            yield from hooks_on_gradient(p)
        own = vars(m)
        for kind in HOOKS:
            if own.get(kind):
                yield from own[kind].values()
        if (name, "*") in notes:
            continue
        for key, value in own.items():
            if key not in _INNER and (name, key) not in notes:
                yield key
                yield value


def is_as_before(before: Collection[object], now: Iterable[object]) -> bool:
    """Whether all parts are the very same as then."""
    return all(then is part for then, part in zip_longest(before, now, fillvalue=_INNER))
