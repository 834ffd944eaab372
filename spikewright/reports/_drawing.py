"""Which modules of a network draw random numbers."""

import sys
from types import FrameType
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.dataflow.schemas import operator
from spikewright.network import Network


class DrawingModules(TorchDispatchMode):
    """While active, notes the modules in which operators of torch draw random numbers, from whatever generator.

    Args:
        net: Network that is run.

    Attributes:
        places: Names of the innermost modules that drew.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self._names = {id(module): name for name, module in net.module.named_modules()}
        self.places: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        op = operator(func)
        if op.draws(dict(zip(op.arguments, args), **kwargs)):
            self.places |= self._innermost(sys._getframe(1))
        return func(*args, **kwargs)

    def _innermost(self, frame: FrameType | None) -> set[str]:
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and id(owner) in self._names:
                return {self._names[id(owner)]}
            frame = frame.f_back
        return set()
