"""Contents of objects that may change: entries of containers, attributes of modules and of their classes."""

import functools
from collections import UserDict, UserList, deque
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit._script import RecursiveScriptModule

_LIBRARIES = frozenset({"torch", "spikewright", "builtins", "abc", "typing"})
PLAIN = (bool, int, float, complex, str, type(None))
"""Types of constant values without contents."""
_FOLLOWED = (dict, list, set, deque, Tensor, np.ndarray, np.random.Generator, torch.Generator)


def contents(value: Any) -> dict[Any, Any] | None:
    """Return the contents of an object by key; `None` for an object of another kind than these.

    Modules (also of TorchScript), dictionaries, lists, sets, queues, tuples and dataclasses have contents, and tensors
    those attributes that were attached to them.
    """
    if isinstance(value, dict):
        return value
    if isinstance(value, Tensor):
        return _attributes(value)
    if isinstance(value, list | deque | tuple):
        return dict(enumerate(value))
    if isinstance(value, set):
        return dict(zip(value, value))
    if isinstance(value, RecursiveScriptModule):
        inner = {**dict(value.named_parameters(recurse=False)), **dict(value.named_buffers(recurse=False))}
        return {**vars(value), **dict(value.named_children()), **inner, **scripted(value)}
    if isinstance(value, nn.Module):
        own: dict[Any, Any] = vars(value)
        shared = {(base, name): x for base in classes(type(value)) for name, x in of_class(base).items()}
        return {**own, **shared} if shared else own
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value) if hasattr(value, f.name)} | _attributes(value)
    if isinstance(value, SimpleNamespace | UserDict | UserList):
        return vars(value)
    return None


def _attributes(value: Any) -> dict[str, Any]:
    return vars(value) if hasattr(value, "__dict__") else {}


def scripted(module: RecursiveScriptModule) -> dict[str, Any]:
    """Return the attributes of a module of TorchScript that are neither parameters nor buffers, by name."""
    kind = getattr(module, "_concrete_type", None)
    known = {"training", "_is_full_backward_hook", *module._parameters.keys(), *module._buffers.keys()}
    names = () if kind is None else kind.get_attributes().keys() - known
    return {name: module._c.getattr(name) for name in sorted(names)}


@functools.cache
def classes(kind: type) -> tuple[type, ...]:
    """Return those base classes of a class, itself included, that are defined by the user."""
    return tuple(base for base in kind.__mro__ if base.__module__.partition(".")[0] not in _LIBRARIES)


def of_class(kind: type) -> dict[str, Any]:
    """Return the attributes of a class that are data, by name."""
    return {
        name: x
        for name, x in vars(kind).items()
        if isinstance(x, PLAIN + _FOLLOWED) and not (name.startswith("__") and name.endswith("__"))
    }
