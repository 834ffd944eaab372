"""Interception of operations: each belongs to the innermost module of a run that is replaced and calls it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
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
