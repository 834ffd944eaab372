"""Compiled blocks, run uncompiled."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Stance:
    """The stance of the compiler, one per process: the first thread inside sets it, the last one puts it back."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.RLock(), 0
        self.before: Any = None

    def enter(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.before = torch.compiler.set_stance("force_eager")  # set as soon as it is made
            self.inside += 1

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.before.__exit__(None, None, None)


_STANCE = _Stance()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_STANCE.__init__)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled blocks uncompiled, because modes that follow operations cannot see into compiled code."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    _STANCE.enter()
    try:
        yield
    finally:
        _STANCE.leave()
