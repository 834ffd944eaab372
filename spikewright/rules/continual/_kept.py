"""Subspaces by the name of their weight, and the projection of finished gradients."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.text import as_entry, from_key
from spikewright.rules.continual.subspaces import Lateral, Subspace


class Subspaces(nn.ModuleDict):
    """Subspaces by the name of their weight's module; loading a state creates missing ones."""

    def __init__(self, lateral: Lateral) -> None:
        super().__init__()
        self._lateral = lateral

    def add(self, name: str, size: int, like: Tensor) -> None:
        """Add an empty subspace for rows of `size` entries, of the device and type of `like`."""
        like = like.detach() if like.dtype.itemsize >= 4 else like.detach().float()
        super().__setitem__(as_entry(name), Subspace(size, like, self._lateral))

    def __contains__(self, name: str) -> bool:
        return super().__contains__(as_entry(name))

    def __getitem__(self, name: str) -> Subspace:
        found = super().__getitem__(as_entry(name))
        assert isinstance(found, Subspace)
        return found

    def by_name(self) -> dict[str, Subspace]:
        """Return the subspaces by the name of the module."""
        return {name: self[name] for name in map(from_key, self)}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for key, value in state_dict.items():
            name, _, kind = key.removeprefix(prefix).rpartition(".")
            if key.startswith(prefix) and kind == "old" and from_key(name) not in self:
                self.add(from_key(name), value.shape[1], value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Aside:
    """Sets existing gradients aside, so that only those of the next update are projected.

    Args:
        weights: Weights whose gradients are projected, by the name of their module.
        subspaces: Subspaces by the same names; weights with an empty one are left alone.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], subspaces: Subspaces) -> None:
        self._subspaces = subspaces
        self._weights = {name: w for name, w in weights.items() if len(subspaces[name].old)}
        self._grads = {name: w.grad for name, w in self._weights.items() if w.grad is not None}
        for name in self._grads:
            weights[name].grad = None

    @torch.no_grad()
    def bring_back(self, done: Collection[str]) -> None:
        """Project the new gradients, except those of `done`, and add the ones that were set aside.

        Args:
            done: Names of weights whose gradients are already projected.
        """
        for name, weight in self._weights.items():
            grad = weight.grad
            if grad is not None and name not in done:
                grad = self._subspaces[name].project(grad.flatten(1)).view_as(weight)
            before = self._grads.pop(name, None)
            weight.grad = before if grad is None else grad if before is None else before + grad
        self._weights = {}
