"""What a projection leaves, of use twice: to the gradient, and to the lateral weights that learn from its mean."""

import pytest
import torch
from torch import Tensor

from spikewright.rules.continual.subspaces import Hebbian, Rows, Subspace
from spikewright.rules.continual.subspaces.projected_rows import ProjectedRows
from tests.oracles.hlop import learned, rest
from tests.subspaces.support import basis, drawn, holding

SIZE, BATCH = 6, 4


def left(rows: Tensor, old: Tensor) -> Tensor:
    return torch.stack([rest(one, old) for one in rows])


def subspace() -> Subspace:
    old = 0.9 * basis(2, SIZE)
    return holding(old, old[:0])


def assert_close(found: Tensor | None, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, BATCH, SIZE), (1, BATCH, SIZE), (3, BATCH, 2, SIZE)], ids=str)
def test_the_mean_over_time_of_what_is_left(shape: tuple[int, ...]) -> None:
    x, space = drawn(*shape), subspace()
    once = ProjectedRows(space, x)
    assert once.mean is None  # no gradient has been taken
    rows = x.reshape(-1, SIZE)
    assert_close(once(rows), left(rows, space.old))
    assert_close(once.mean, left(x.mean(0).reshape(-1, SIZE), space.old))


def test_one_step_stands_for_all() -> None:
    x, space = drawn(1, BATCH, SIZE).expand(5, -1, -1), subspace()
    once = ProjectedRows(space, x)
    assert_close(once(x[0]), left(x[0], space.old))
    assert_close(once.mean, left(x[0], space.old))


def test_steps_are_projected_at_every_call() -> None:
    x, space = drawn(3, BATCH, SIZE), subspace()
    once = ProjectedRows(space, x)
    for factor in (1, 2):
        assert_close(once(factor * x.flatten(0, 1)), factor * left(x.flatten(0, 1), space.old))


def test_the_same_step_is_recognised_in_its_memory() -> None:
    still = drawn(1, BATCH, SIZE)
    x = still.expand(5, -1, -1)
    once = ProjectedRows(subspace(), x[2:3])
    assert once.serves(x[3:4]) and once.serves(still) and once.serves(x[:1].detach())
    assert not once.serves(still.clone())
    assert not once.serves(still.view(1, 2, 2, SIZE)) and not once.serves(still.view(BATCH, 1, SIZE)[:1])
    assert not ProjectedRows(subspace(), drawn(2, BATCH, SIZE)[:1]).serves(drawn(2, BATCH, SIZE)[1:])
    still.mul_(2)
    assert not once.serves(x[3:4])
    assert ProjectedRows(subspace(), still).serves(x[:1])


def test_several_steps_serve_once() -> None:
    x = drawn(3, BATCH, SIZE)
    assert not ProjectedRows(subspace(), x).serves(x)


def test_low_precision_teaches_nothing() -> None:
    x, space = drawn(2, BATCH, SIZE), subspace()
    once = ProjectedRows(space, x)
    rows = once(x.flatten(0, 1).float())
    assert rows.dtype == torch.float32 and once.mean is None
    torch.testing.assert_close(rows.double(), left(x.flatten(0, 1), space.old), rtol=0, atol=1e-5)


@pytest.mark.parametrize("known", [(True,), (True, True), (True, False), (False, True), (False,)], ids=str)
@pytest.mark.parametrize("new", [1, 3])
def test_lateral_weights_learn_the_same_from_what_is_known(new: int, known: tuple[bool, ...]) -> None:
    old, fresh = 0.9 * basis(3, SIZE), drawn(new, SIZE, seed=1)
    space, rows, pieces = holding(old, fresh), Rows(SIZE), []
    for piece, given in enumerate(known):
        x = drawn(1, SIZE, seed=2 + piece)
        rows.add(x, projected=left(x, old) if given else None)
        pieces.append(x)
    assert (rows.projected is not None) == all(known)
    Hebbian(rate=0.1)(space, rows)
    expected, _ = learned(old, fresh, torch.zeros_like(fresh), torch.cat(pieces), rate=0.1)
    torch.testing.assert_close(space.new, expected, rtol=0, atol=1e-13)


def test_what_is_known_is_what_is_learned_from() -> None:
    old, fresh, x = basis(3, SIZE), drawn(1, SIZE, seed=1), drawn(1, SIZE, seed=2)
    found = []
    for factor in (1.0, 2.0):
        space, rows = holding(old, fresh), Rows(SIZE)
        rows.add(x, projected=factor * left(x, old))
        Hebbian(iterations=1)(space, rows)
        found.append(space.momentum)
    share = 0.1 * (fresh @ x.T) * left(x, old)
    torch.testing.assert_close(found[1] - found[0], share, rtol=0, atol=1e-14)


def test_rows_that_are_summed_up_forget_what_is_left_of_them() -> None:
    rows = Rows(SIZE)
    rows.add(drawn(3 * SIZE, SIZE), projected=drawn(3 * SIZE, SIZE))
    assert rows.kept is None and rows.projected is None
    assert not any(value for value in vars(rows).values() if isinstance(value, list))  # nor take up memory
