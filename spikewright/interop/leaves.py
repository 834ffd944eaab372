"""Tensors and modules that a model holds without PyTorch knowing of them, in attributes, lists and dictionaries."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def shared_leaves(model: nn.Module) -> list[Tensor]:
    """Return tensors that train with a model and are no parameters of it."""
    found: list[Tensor] = []
    for module in model.modules():
        for _, value in attributes(module):
            if isinstance(value, nn.Module):
                found += value.parameters()
            elif isinstance(value, Tensor) and is_leaf(value):
                found.append(value)
    return found


def attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield modules and tensors in the attributes of a module, in containers too, by the code that gives them."""
    for key, value in vars(module).items():
        if key not in _OWN:
            yield from _inside(key, value, 0)


_OWN = frozenset(vars(nn.Module())) | {"_memories", "_memories_rv"}


def _inside(key: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Module | Tensor):
        yield key, value
    elif depth < 4 and isinstance(value, list | tuple | dict):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from _inside(f"{key}[{name!r}]", part, depth + 1)


def is_leaf(value: Tensor) -> bool:
    """True for a tensor that a gradient ends at."""
    return value.requires_grad and value.grad_fn is None
