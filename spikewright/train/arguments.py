"""Constructor arguments that a configuration may set, and the plain values that fit them."""

import collections.abc
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from spikewright._util.arguments import shown
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError

_SUPPLIED = frozenset("params shape classes neuron optimizer batches epochs dataset relations".split())
"""Required arguments that the program supplies, to one component or another."""
_HIDDEN = frozenset(("data_dir", "inplace"))
"""Arguments that are set elsewhere or have no meaning in a configuration."""


def options(
    builder: Callable[..., Any], positional: int = 0, named: Collection[str] = ()
) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor that a configuration may set, without those that the program supplies.

    Args:
        builder: Constructor.
        positional: Number of arguments that the program supplies in the first places. Default: 0.
        named: Arguments that the program supplies by name, whether they have a default or not. Default: ().
    """
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

    def settable(p: inspect.Parameter) -> bool:
        supplied = p.name in named or (p.name in _SUPPLIED and p.default is inspect.Parameter.empty)
        return p.kind in kinds and not supplied and p.name not in _HIDDEN

    parameters = list(inspect.signature(builder).parameters.values())
    return {p.name: p for p in parameters[positional:] if settable(p)}


def hints(builder: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a constructor's arguments, without those that cannot be resolved."""
    builder = inspect.unwrap(builder)
    function = inspect.unwrap(builder.__init__ if inspect.isclass(builder) else builder)
    found: dict[str, Any] = {}
    for key, hint in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={key: hint})
        with suppress(NameError):  # its name is imported under TYPE_CHECKING
            found |= get_type_hints(alone, getattr(function, "__globals__", {}), vars(collections.abc))
    return found


def check_type(path: str, owner: str, value: Any, types_by_key: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a plain value does not fit the type of the last part of `path`.

    Args:
        path: `section.key`.
        owner: Name of the constructor, for the message.
        value: Plain value.
        types_by_key: Type hints by key.
    """
    hint = types_by_key.get(path.rpartition(".")[2])
    if hint is not None and not _matches(value, hint):
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        found = "" if value is None else f" is {kind_of(value)}"
        raise ConfigError(f"{path} = {shown(value)}{found}; {owner} takes {wanted}.")


def tuples(value: Any) -> Any:
    """Return a value with lists, as in TOML and JSON, replaced by tuples, as in constructors."""
    return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value


def is_plain(value: Any) -> bool:
    """Return whether a configuration file can represent a value."""
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool | dict)


def _matches(value: Any, hint: Any) -> bool:
    """Return whether a plain value fits a type hint; hints that cannot be checked pass."""
    if hint in (Any, object):
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, tuple) and inspect.isclass(origin) and issubclass(origin, Iterable) and origin is not Mapping:
        several = len(arguments) == 1 or arguments[-1] is ...
        kinds = arguments[:1] * len(value) if several else arguments
        return len(kinds) == len(value) and all(map(_matches, value, kinds))
    if origin is tuple or hint is tuple:
        return isinstance(value, tuple)
    if origin is collections.abc.Mapping:
        return isinstance(value, dict)
    if collections.abc.Callable in (origin, hint):
        return False
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    # Another class, such as a tensor or a sequence: only a tuple can represent it.
    return isinstance(value, tuple) or (origin is None and not isinstance(value, str) and hint is not torch.Tensor)
