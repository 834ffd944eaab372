"""A subspace of more than half of all directions: projected through a matrix that follows its rows."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.rules.continual.subspaces import Lateral, Subspace
from tests.oracles.hlop import rest
from tests.subspaces.support import basis, drawn, holding

SIZE = 7


def filled(rows: int, lateral: Lateral | None = None) -> Subspace:
    """Rows that are not quite orthonormal."""
    old = 0.9 * basis(rows, SIZE) + 0.05 * drawn(rows, SIZE, seed=1)
    return holding(old, old[:0], lateral=lateral)


def assert_projects(subspace: Subspace, tolerance: float = 1e-14) -> None:
    x = drawn(4, SIZE, seed=2)
    expected = torch.stack([rest(one, subspace.old.double()) for one in x])
    found = subspace.project(x.to(subspace.old.dtype))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rows", range(SIZE + 1))
def test_as_by_every_row(rows: int) -> None:
    subspace = filled(rows)
    assert_projects(subspace)
    assert subspace.products == min(2 * rows, SIZE)


def test_bursts_go_through_every_row() -> None:
    lateral = Lateral(steps=2, scale=1.0)
    subspace, x = filled(6, lateral), drawn(4, SIZE, seed=2)
    expected = torch.stack([rest(one, subspace.old, lateral) for one in x])
    torch.testing.assert_close(subspace.project(x), expected, rtol=0, atol=1e-14)
    assert subspace.products == 12


def grown(subspace: Subspace) -> None:
    subspace.add(drawn(1, SIZE, seed=3))


def merged(subspace: Subspace) -> None:
    subspace.new = drawn(1, SIZE, seed=3)
    subspace.merge(orthonormal=True)


def written(subspace: Subspace) -> None:
    subspace.old.mul_(0.5)


def loaded(subspace: Subspace) -> None:
    other = filled(len(subspace.old))
    other.old.mul_(0.5)
    subspace.load_state_dict(other.state_dict())


def converted(subspace: Subspace) -> None:
    subspace.float()


@pytest.mark.parametrize("change", [grown, merged, written, loaded, converted])
def test_follows_its_rows(change: Callable[[Subspace], None]) -> None:
    subspace = filled(5)
    before = subspace.project(drawn(4, SIZE, seed=2))
    change(subspace)
    assert_projects(subspace, 1e-14 if change is not converted else 1e-5)
    assert change is converted or (subspace.project(drawn(4, SIZE, seed=2)) - before).abs().max() > 1e-2


def test_a_copy_follows_its_own_rows() -> None:
    subspace = filled(5)
    assert_projects(subspace)
    twin = copy.deepcopy(subspace)
    twin.old.mul_(0.5)
    assert_projects(twin)
    assert_projects(subspace)


def test_the_matrix_is_made_once_and_is_not_in_the_state() -> None:
    subspace, made = filled(5), []
    for _ in range(2):
        subspace.project(drawn(4, SIZE))
        made.append(subspace._projection)
    assert made[0] is made[1]
    assert subspace.state_dict().keys() == {"old", "new", "momentum"}


def test_other_precisions_are_projected_in_theirs() -> None:
    subspace, x = filled(5), drawn(4, SIZE)
    found: Tensor = subspace.project(x.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), subspace.project(x), rtol=0, atol=1e-5)
