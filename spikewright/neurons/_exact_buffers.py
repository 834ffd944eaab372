"""Constants of neurons, one number or one per channel, kept in double precision whatever a module is cast to."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class ExactBuffers(nn.Module):
    """Keeps some constants as numbers, buffers of double precision, or parameters."""

    def __init__(self) -> None:
        super().__init__()
        self._exact: set[str] = set()

    def hold(self, name: str, value: float | Tensor, learned: bool = False) -> None:
        """Set the attribute `name` to a constant.

        Args:
            name: Name of the attribute; that of a buffer or parameter too.
            value: A number, or a tensor in double precision.
            learned: True makes a parameter of it, in the default precision.
        """
        if learned:
            start = torch.as_tensor(value, dtype=torch.float64)
            setattr(self, name, nn.Parameter(start.to(torch.get_default_dtype()).clone()))
        elif isinstance(value, Tensor):
            self.register_buffer(name, value)
            self._exact.add(name)
        else:
            setattr(self, name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move constants to another device, but keep their precision."""
        exact = {name: self.get_buffer(name) for name in self._exact}
        super()._apply(fn, recurse)
        for name, value in exact.items():
            self._buffers[name] = value.to(self.get_buffer(name).device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load constants, unless the stored ones are the present ones in lower precision."""
        for name in self._exact:
            stored, exact = state_dict.get(f"{prefix}{name}"), self.get_buffer(name)
            if isinstance(stored, Tensor) and stored.shape == exact.shape and torch.equal(stored, exact.to(stored)):
                state_dict[f"{prefix}{name}"] = exact
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
