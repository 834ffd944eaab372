"""Uses of tensors that the dispatcher does not see: reads of values, and hooks on gradients."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_COPIES = {"__deepcopy__", "untyped_storage", "storage", "__reduce_ex__"}  # past the dispatcher, pickles
_READS = {"tolist", "numpy", "__array__", "__dlpack__", "data_ptr"} | _COPIES
_BUILDS = {"tensor", "as_tensor", "asarray", "new_tensor", "new"}  # read the tensors in a list that they are given
_WATCHED = _READS | _BUILDS
_CUTS = {"detach", "detach_"}
_GET_DATA: Any = Tensor.data.__get__  # type: ignore[attr-defined]
_SET_DATA: Any = Tensor.data.__set__  # type: ignore[attr-defined]
_HOOKS = {"register_hook", "register_post_accumulate_grad_hook"}
_NOTED = _WATCHED | _CUTS | _HOOKS | {"set_", "__get__", "__set__"}
"""Names of all functions to look at; the last two are those of attributes, such as `data`."""


def _is_ours(frame: FrameType | None) -> bool:
    """True if a frame, behind handlers of torch functions, runs code of torch or of this library."""
    while frame is not None and frame.f_code.co_name == "__torch_function__":
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in ("torch", __name__.partition(".")[0])


class Exits(TorchFunctionMode):
    """While active, reports functions that read or change tensors past the dispatcher.

    Args:
        leave: Called with the name of a function and the values that it is about to read.
        hook: Called with a tensor that gets a hook on its gradient.
        write: Called with a tensor that is about to get other memory.
        cut: Called with the name of a function by which foreign code cuts a tensor from the graph.
    """

    def __init__(
        self,
        leave: Callable[[str, Any], None],
        hook: Callable[[Tensor], None],
        write: Callable[[Tensor], None],
        cut: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._leave, self._hook, self._write, self._cut = leave, hook, write, cut

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _NOTED:
            self._note(func, name, args, kwargs or {})
        return func(*args, **kwargs or {})

    def _note(self, func: Any, name: str, args: Any, kwargs: Any) -> None:
        if name in _WATCHED:
            lists = [x for x in (*args, *kwargs.values()) if isinstance(x, list | tuple)]
            self._leave(name.strip("_"), args[:1] if name in _READS else lists)
        elif name in _HOOKS:
            self._hook(args[0])
        elif func == _SET_DATA or name == "set_":
            self._write(args[0])
        elif (name in _CUTS or func == _GET_DATA) and not _is_ours(sys._getframe(2)):
            self._cut(name)
