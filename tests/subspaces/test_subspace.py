"""Rows through tasks: they come, settle, are bounded, and are written to and read from a file."""

import io

import pytest
import torch

from spikewright.rules.continual.subspaces import Hebbian, Subspace
from tests.oracles.hlop import rest
from tests.subspaces.support import arrived, basis, drawn, holding, projector

SIZE = 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def empty(size: int = SIZE) -> Subspace:
    return Subspace(size, drawn(0, size))


def test_new_rows_are_orthonormal_and_at_rest() -> None:
    subspace = empty()
    subspace.grow(3, generator())
    torch.testing.assert_close(subspace.new @ subspace.new.T, torch.eye(3), rtol=0, atol=1e-14)
    assert torch.equal(subspace.momentum, torch.zeros(3, SIZE)) and len(subspace.old) == 0
    other = empty()
    other.grow(3, generator())
    assert torch.equal(other.new, subspace.new)
    other.grow(0, generator())
    assert len(other.new) == len(other.momentum) == 3


def test_rows_of_a_task_that_is_over_stay_bit_for_bit() -> None:
    subspace, rule = empty(), Hebbian(rate=0.1)
    seen = []
    for task, count in enumerate((2, 1, 3)):
        subspace.grow(count, generator(task))
        rule(subspace, arrived(drawn(50, SIZE, seed=task)))
        assert subspace.momentum.any() and len(subspace.momentum) == len(subspace.new) == count
        seen.append(subspace.new.clone())
        subspace.merge()
        assert torch.equal(subspace.old, torch.cat(seen))
        assert len(subspace.new) == len(subspace.momentum) == 0
    assert len(subspace.old) == 6


def test_there_are_never_more_rows_than_directions() -> None:
    subspace = empty()
    room = []
    for task in range(4):
        subspace.grow(3, generator(task))
        room.append(subspace.room)
        assert len(subspace.old) + len(subspace.new) <= SIZE
        subspace.merge()
    assert room == [4, 1, 0, 0] and len(subspace.old) == SIZE


def test_settled_rows_may_be_made_orthonormal() -> None:
    rows = drawn(4, SIZE)
    subspace = holding(0.9 * basis(2, SIZE, seed=3), rows)
    expected = projector(torch.cat([subspace.old, rows]))
    assert subspace.orthogonality_error > 0.1
    subspace.merge(orthonormal=True)
    assert subspace.orthogonality_error < 1e-12 and len(subspace.old) == 6
    torch.testing.assert_close(subspace.old.T @ subspace.old, expected, rtol=0, atol=1e-12)
    nothing = empty()
    nothing.merge(orthonormal=True)
    assert nothing.orthogonality_error == 0 and nothing.old.shape == (0, SIZE)


def test_rows_may_be_settled_at_once() -> None:
    subspace = holding(basis(1, SIZE), drawn(2, SIZE))
    subspace.add(drawn(2, SIZE, seed=4))
    assert torch.equal(subspace.old, torch.cat([basis(1, SIZE), drawn(2, SIZE, seed=4)]))
    assert torch.equal(subspace.new, drawn(2, SIZE))


def test_projection_is_that_of_settled_rows_alone() -> None:
    subspace, x = holding(0.8 * basis(3, SIZE), drawn(2, SIZE)), drawn(4, SIZE, seed=2)
    expected = torch.stack([rest(one, subspace.old) for one in x])
    torch.testing.assert_close(subspace.project(x), expected, rtol=0, atol=1e-14)
    assert torch.equal(empty().project(x), x)


def test_projection_ends_what_lies_in_orthonormal_rows() -> None:
    old = basis(3, SIZE)
    subspace, x = holding(old, old[:0]), drawn(4, SIZE)
    assert (subspace.project(drawn(5, 3) @ old)).abs().max() < 1e-14
    once = subspace.project(x)
    torch.testing.assert_close(subspace.project(once), once, rtol=0, atol=1e-14)


def test_skew_is_the_largest_entry_that_is_off() -> None:
    rows = torch.zeros(2, SIZE)
    rows[0, 0], rows[1, :2] = 1.0, torch.tensor([0.25, 1.0])
    assert holding(rows[:1], rows[1:]).orthogonality_error == 0.25
    assert holding(rows[:0], 0.5 * rows[:1]).orthogonality_error == 0.75


@pytest.mark.parametrize("through_file", [False, True])
def test_a_state_is_loaded_whatever_the_number_of_rows(through_file: bool) -> None:
    subspace = holding(basis(2, SIZE), drawn(3, SIZE), drawn(3, SIZE, seed=1))
    state = subspace.state_dict()
    if through_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    for other in (empty(), holding(basis(5, SIZE), drawn(1, SIZE))):
        other.load_state_dict(state)
        for name, buffer in subspace.named_buffers():
            assert torch.equal(other.get_buffer(name), buffer), name
        other.new += 1
        assert torch.equal(subspace.new, drawn(3, SIZE))  # a copy, not the same memory


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for old"):
        empty(SIZE + 1).load_state_dict(holding(basis(2, SIZE), drawn(1, SIZE)).state_dict())
