"""Tensors by name in a module's state, with any names, added at any time."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from spikewright._util.text import as_key, from_key
from spikewright.errors import IncompatibleRule


class Matrices(nn.Module):
    """A dictionary of buffers; loading a state adds missing ones."""

    def __contains__(self, name: str) -> bool:
        return as_key(name) in self._buffers

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(as_key(name))

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.register_buffer(as_key(name), value)

    def __iter__(self) -> Iterator[str]:
        return map(from_key, self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def holds(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return True if there is a tensor of that name.

        Raises:
            IncompatibleRule: It has another shape.
        """
        if name in self and tuple(self[name].shape) != shape:
            raise IncompatibleRule(
                f"The feedback '{name}' was made for {list(self[name].shape)}, but this network needs {list(shape)}: "
                "the rule has learned with another network, or inputs of another size. Make a new rule for this one."
            )
        return name in self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for key, value in state_dict.items():
            if key.startswith(prefix) and key[len(prefix) :] not in self._buffers:
                self.register_buffer(key[len(prefix) :], value.clone())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
