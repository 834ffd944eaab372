"""Interception of operations: each belongs to the innermost module of a run that is replaced and calls it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Handler = Callable[..., Tensor]
Parsers = Mapping[Any, Callable[..., tuple[Any, ...]]]
"""Functions that are intercepted; each maps to a parser of its call, which returns the arguments of the handler."""


class Interception(TorchFunctionMode):
    """While active, calls of some functions go to a handler in their place.

    A call inside the handler runs as it is.

    Args:
        parsers: The functions, and what the handler is given of their calls.
        handler: Called in their place.
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
        self._innermost: Interception | None = None

    def apart(
        self, answers: Iterator[tuple[nn.Module, Callable[..., Any]]]
    ) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        """Let each answer run outside the interception of the module that calls it."""
        for module, answer in answers:
            yield module, partial(self._call, answer)

    @contextmanager
    def active(self, interception: Interception) -> Iterator[None]:
        """Activate an interception while the forward of its module runs."""
        outer, self._innermost = self._innermost, interception
        try:
            with interception:
                yield
        finally:
            self._innermost = outer

    def _call(self, answer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        outer = self._innermost
        if outer is None:
            return answer(*args, **kwargs)
        self._innermost, paused = None, outer.paused
        outer.paused = True
        try:
            return answer(*args, **kwargs)
        finally:
            self._innermost, outer.paused = outer, paused
