"""Interception of functions of torch, for the innermost module of a run that calls them."""

from collections.abc import Callable, Mapping
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
