"""Where learning leads: to the directions with the largest second moment, beside those that are settled."""

import pytest
import torch
from torch import Tensor

from spikewright.rules.continual.subspaces import Hebbian, Subspace
from tests.subspaces.support import arrived, basis, drawn, holding, projector

SIZE = 12
SPREAD = torch.tensor([3.0, 2.5, 2.0, 1.6, 1.3] + [0.3] * 7, dtype=torch.float64)
"""Root of the second moment along each axis: gaps behind the third and the fifth."""
AXES = torch.eye(SIZE, dtype=torch.float64)


def activity(rows: int, seed: int, mean: float = 0.0) -> Tensor:
    return drawn(rows, SIZE, seed=seed) * SPREAD + mean * AXES[-1]


def taught(subspace: Subspace, updates: int, rule: Hebbian | None = None, batch: int = 64) -> Subspace:
    """The subspace after batches of its own."""
    for update in range(updates):
        (rule or Hebbian())(subspace, arrived(activity(batch, seed=update)))
    return subspace


def distance(rows: Tensor, axes: list[int]) -> float:
    """Largest sine of an angle between the span of rows and that of some axes."""
    return torch.linalg.matrix_norm(projector(rows) - projector(AXES[axes]), 2).item()


def iterated(subspace: Subspace, x: Tensor, updates: int) -> Subspace:
    rows = arrived(x)
    for _ in range(updates):
        Hebbian(rate=0.05, iterations=20)(subspace, rows)
    return subspace


def test_small_batches_find_the_leading_directions_up_to_their_noise() -> None:
    subspace = taught(holding(drawn(0, SIZE), basis(3, SIZE)), updates=600)
    assert subspace.orthogonality_error < 6e-3
    assert distance(subspace.new, [0, 1, 2]) < 0.17


def test_all_rows_at_once_find_them_to_rounding() -> None:
    x = activity(500, seed=0)
    moment = x.T @ x / len(x)
    leading = torch.linalg.eigh(moment).eigenvectors.flip(1).T
    subspace = iterated(holding(drawn(0, SIZE), 0.2 * drawn(3, SIZE)), x, updates=100)
    assert subspace.orthogonality_error < 1e-12
    torch.testing.assert_close(projector(subspace.new), projector(leading[:3]), rtol=0, atol=1e-10)


@pytest.mark.long
def test_further_rows_find_the_next_directions_beside_settled_ones() -> None:
    subspace = taught(holding(drawn(0, SIZE), basis(3, SIZE)), updates=600)
    subspace.merge()
    old = subspace.old.clone()
    subspace.grow(2, torch.Generator().manual_seed(0))
    assert (subspace.new @ old.T).abs().max() > 0.1  # they begin with no regard to each other
    taught(subspace, updates=1500)
    assert torch.equal(subspace.old, old)
    assert (subspace.new @ old.T).abs().max() < 6e-3
    assert subspace.orthogonality_error < 6e-3 and distance(subspace.new, [3, 4]) < 0.17


def test_further_rows_find_them_to_rounding_with_all_rows_at_once() -> None:
    x = activity(500, seed=0)
    leading = torch.linalg.eigh(x.T @ x).eigenvectors.flip(1).T
    subspace = iterated(holding(leading[:3].contiguous(), basis(2, SIZE)), x, updates=150)
    assert torch.equal(subspace.old, leading[:3]) and subspace.orthogonality_error < 1e-10
    torch.testing.assert_close(projector(subspace.new), projector(leading[3:5]), rtol=0, atol=1e-10)


def test_one_row_becomes_the_one_direction_there_is() -> None:
    direction = basis(1, SIZE, seed=5)
    x = torch.cat([direction, -direction, 2 * direction])
    subspace = iterated(holding(drawn(0, SIZE), 0.3 * drawn(1, SIZE)), x, updates=100)
    assert min((subspace.new - direction).norm(), (subspace.new + direction).norm()) < 1e-12


def test_the_mean_is_a_direction_too() -> None:
    x = activity(500, seed=0, mean=5.0)  # along an axis of little variance
    subspace = iterated(holding(drawn(0, SIZE), 0.2 * drawn(1, SIZE)), x, updates=100)
    assert subspace.new[0, -1].abs() > 0.99
