"""What the tests of subspaces share: rows, bases, and subspaces that hold them."""

import torch
from torch import Tensor

from spikewright.rules.continual.subspaces import Lateral, Rows, Subspace


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis(rows: int, size: int, seed: int = 0) -> Tensor:
    """Orthonormal rows."""
    return torch.linalg.qr(drawn(size, size, seed=seed)).Q[:rows]


def holding(old: Tensor, new: Tensor, momentum: Tensor | None = None, lateral: Lateral | None = None) -> Subspace:
    """A subspace of these rows."""
    subspace = Subspace(new.shape[1], new, lateral or Lateral())
    momentum = torch.zeros_like(new) if momentum is None else momentum
    subspace.old, subspace.new, subspace.momentum = old.clone(), new.clone(), momentum.clone()
    return subspace


def arrived(*pieces: Tensor, whole: bool = False) -> Rows:
    """Rows that came in these pieces."""
    rows = Rows(pieces[0].shape[1], whole)
    for piece in pieces:
        rows.add(piece)
    return rows


def projector(rows: Tensor) -> Tensor:
    """Onto the span of any rows."""
    basis = torch.linalg.qr(rows.T).Q
    return basis @ basis.T
