"""The ways from tensors to Python values that no operator takes part in."""

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

_READS = {"tolist", "numpy", "__array__", "__dlpack__", "data_ptr"}
_BUILDS = {"tensor", "as_tensor", "asarray", "new_tensor", "new"}  # read the tensors in a list that they are given
_WATCHED = _READS | _BUILDS


class Exits(TorchFunctionMode):
    """While active, tells which functions read values past the dispatcher.

    Args:
        leave: Called with the name of the function and what it reads, before it does.
    """

    def __init__(self, leave: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._leave = leave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _WATCHED:
            lists = [x for x in (*args, *kwargs.values()) if isinstance(x, list | tuple)]
            self._leave(name.strip("_"), args[:1] if name in _READS else lists)
        return func(*args, **kwargs)
