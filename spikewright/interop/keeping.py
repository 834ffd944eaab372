"""What runs change in a model beside its output, put back: buffers, attributes, lists, dictionaries."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Kept:
    """Buffers and attributes of all modules of a model, as they were.

    Args:
        model: The model.
        without: Classes of modules whose own attributes are left out.
    """

    def __init__(self, model: nn.Module, without: tuple[type, ...] = ()) -> None:
        self.back: list[Callable[[], None]] = []
        self.seen: set[int] = set()
        for module in list(model.modules()):
            if not isinstance(module, without):
                self._keep(vars(module))

    def restore(self) -> None:
        """Put everything back that has changed."""
        for each in self.back:
            each()

    def _keep(self, value: Any) -> None:
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        if isinstance(value, nn.Parameter):
            return
        if isinstance(value, Tensor):
            self._keep_tensor(value)
        elif type(value) in _CONTAINERS or isinstance(value, dict):
            copy: Any = value.copy()
            self.back.append(lambda: _fill(value, copy))
            for part in list(value.values() if isinstance(value, dict) else value):
                self._keep(part)

    def _keep_tensor(self, value: Tensor) -> None:
        with torch.no_grad():
            copy = value.detach().clone()

        def back() -> None:
            if not (value.shape == copy.shape and torch.equal(value.detach(), copy)):
                with torch.no_grad():
                    value.detach().copy_(copy) if value.shape == copy.shape else value.set_(copy)  # type: ignore[call-overload]

        self.back.append(back)


_CONTAINERS = (list, set, dict)


def _fill(value: Any, copy: Any) -> None:
    """Give a container what it had, if it has something else."""
    if isinstance(copy, dict):
        same = value.keys() == copy.keys() and all(value[key] is part for key, part in copy.items())
    elif isinstance(copy, set):
        same = value == copy
    else:
        same = len(value) == len(copy) and all(one is other for one, other in zip(value, copy))
    if not same:
        value.clear()
        value.extend(copy) if isinstance(value, list) else value.update(copy)
