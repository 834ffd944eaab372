"""The precisions in which something is computed, by casts, autocast or its own parts."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spikewright._util.real_numbers import is_continuous, real_type


class Precisions(TorchDispatchMode):
    """Collects the dtypes of all real numbers that are computed while it is active, parts of complex ones included.

    >>> with Precisions() as seen, torch.autocast("cpu", torch.bfloat16):
    ...     y = torch.nn.Linear(2, 2)(torch.ones(1, 2))
    >>> seen.lowest(torch.float32)
    torch.bfloat16
    """

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.types.update(real_type(t.dtype) for t in tree_leaves(result) if is_continuous(t))
        return result

    def lowest(self, dtype: torch.dtype) -> torch.dtype:
        """Return the coarsest of the collected dtypes and a given one."""
        return max((*self.types, real_type(dtype)), key=lambda seen: torch.finfo(seen).eps)
