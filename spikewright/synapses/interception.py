"""Interception of functions of torch, for the innermost module of a run that calls them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

Handler = Callable[..., Tensor]
Parsers = Mapping[Any, Callable[..., tuple[Any, ...]]]
"""Intercepted functions, each with a parser from its call to the arguments of the handler."""


class Interception(TorchFunctionMode):
    """While active, calls a handler in place of some functions.

    Calls inside the handler are not intercepted.

    Args:
        parsers: The functions, each with a parser that returns the arguments of the handler.
        handler: Function that is called instead.
    """

    def __init__(self, parsers: Parsers, handler: Handler) -> None:
        super().__init__()
        self._parsers, self._handler = parsers, handler
        self.paused = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        parser = None if self.paused else self._parsers.get(func)
        if parser is None:
            return func(*args, **kwargs)
        parsed = parser(*args, **kwargs)
        self.paused = True
        try:
            return self._handler(*parsed)
        finally:
            self.paused = False


class Interceptions:
    """The interceptions of one run, of which the innermost alone is active.

    A layer may hold other layers and neurons (a convolution with an activation, a batch norm with an activation).
    While the inner one runs, the interception of the outer one is paused.
    """

    def __init__(self) -> None:
        self.innermost: Interception | None = None

    @contextmanager
    def active(self, interception: Interception) -> Iterator[None]:
        """Activate an interception while the forward of its module runs."""
        outer, self.innermost = self.innermost, interception
        try:
            with interception:
                yield
        finally:
            self.innermost = outer

    def call_apart(self, replacement: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a replacement outside the interception of the module that calls it."""
        outer = self.innermost
        if outer is None:
            return replacement(*args, **kwargs)
        self.innermost, paused = None, outer.paused
        outer.paused = True
        try:
            return replacement(*args, **kwargs)
        finally:
            self.innermost, outer.paused = outer, paused
