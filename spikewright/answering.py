"""Speaking for the modules of a network while their network runs."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Calls:
    """Counts the calls of modules in one pass: a module that is called again is another site."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def site(self, name: str) -> str:
        """Return the site of the next call of a module: `name`, `name#2`, ..."""
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    def clear(self) -> None:
        """Start another pass."""
        self._calls.clear()


@contextmanager
def answering(answers: Iterator[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Let each answer stand in for the forward of its module, and undo it whatever happens."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module, answer in answers:
            before.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = answer
        yield
    finally:
        for module, forward in reversed(before):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward


@contextmanager
def uncached_casts() -> Iterator[None]:
    """Keep autocast from reusing a low-precision copy of a weight.

    A copy made in a step without a graph would cut the weight's gradient in the next, and one made before an update
    would be stale after it.
    """
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)
