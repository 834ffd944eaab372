"""Directions of the inputs of one weight: those of old tasks, and those of the current task."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.rules.continual.subspaces.lateral import Lateral


class Subspace(nn.Module):
    """Rows :math:`H` of lateral weights at one weight.

    Args:
        size: Length of a row: the number of inputs of the weight, or of entries of a patch.  At least 1.
        like: Tensor that gives device and type, of any shape.
        lateral: Neurons that the rows lead to.  Default: Lateral(), linear.

    Attributes:
        old: Rows of earlier tasks, `[row, size]`.
        new: Rows of the current task, `[row, size]`.
        momentum: Momentum of `new`, `[row, size]`.
    """

    old: Tensor
    new: Tensor
    momentum: Tensor

    def __init__(self, size: int, like: Tensor, lateral: Lateral = Lateral()) -> None:  # noqa: B008  (a frozen value)
        super().__init__()
        self.size, self.lateral = size, lateral
        self._made: tuple[Tensor, int, Tensor] | None = None
        for name in ("old", "new", "momentum"):
            self.register_buffer(name, like.new_zeros(0, size))

    @property
    def room(self) -> int:
        """Number of directions that are left."""
        return max(0, self.size - len(self.old) - len(self.new))

    def grow(self, rows: int, generator: torch.Generator) -> None:
        """Add rows for the current task, orthogonal among themselves; at most as many as there is room for."""
        rows = min(rows, self.room)
        fresh = torch.empty(rows, self.size, dtype=self.new.dtype)
        if rows:
            nn.init.orthogonal_(fresh, generator=generator)
        self.new = torch.cat([self.new, fresh.to(self.new)])
        self.momentum = torch.cat([self.momentum, torch.zeros_like(fresh).to(self.new)])

    def add(self, rows: Tensor) -> None:
        """Add rows `[row, size]` to the old ones."""
        self.old = torch.cat([self.old, rows.to(self.old)])

    def merge(self, orthonormal: bool = False) -> None:
        """Make the rows of the current task old ones.

        Args:
            orthonormal: If True, replace all rows by an orthonormal basis of their span, which makes the projection
                exact.  Default: False.
        """
        self.old = torch.cat([self.old, self.new])
        self.new, self.momentum = self.new[:0], self.momentum[:0]
        if orthonormal and len(self.old):
            self.old = torch.linalg.qr(self.old.T).Q.T.contiguous()

    @property
    def products(self) -> int:
        """Number of multiplications of `project` per entry of a row."""
        through_rows = 2 * len(self.old)
        return min(through_rows, self.size) if self.lateral.linear else through_rows

    def project(self, rows: Tensor) -> Tensor:
        r"""Return :math:`x - H^\top y(H x)` for every row of `[row, size]`, with the old :math:`H`."""
        if not len(self.old):
            return rows
        with torch.autocast(rows.device.type, enabled=False):
            if self.products < 2 * len(self.old):  # more than half as many rows as directions
                return rows @ self._projection.to(rows.dtype)
            old = self.old.to(rows.dtype)
            return torch.addmm(rows, self.lateral(rows @ old.T), old, alpha=-1)

    @property
    def _projection(self) -> Tensor:
        r"""The matrix :math:`1 - H^\top H`, `[size, size]`, computed once for the present rows."""
        old = self.old
        if self._made is None or self._made[0] is not old or self._made[1] != old._version:
            projection = (old.T @ old).neg_()
            projection.diagonal().add_(1)
            self._made = old, old._version, projection
        return self._made[2]

    @property
    def orthogonality_error(self) -> float:
        r"""Largest entry of :math:`|H H^\top - 1|`, over all rows: 0 where the projection is one."""
        rows = torch.cat([self.old, self.new]).double()
        gram = rows @ rows.T
        gram.diagonal().sub_(1)
        return gram.abs().amax().item() if len(rows) else 0.0

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape[1:] == buffer.shape[1:]:  # rows come and go
                setattr(self, name, buffer.new_zeros(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"size={self.size}, old={len(self.old)}, new={len(self.new)}"
