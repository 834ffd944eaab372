"""One step of lateral weights: its numbers by hand, and by the explicit program in every form it is computed in."""

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.rules.continual.subspaces import Hebbian, Lateral, Subspace
from tests.oracles.hlop import learned
from tests.subspaces.support import arrived, basis, drawn, holding

SIZE = 6


def pair(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def after(rule: Hebbian, new: Tensor, x: Tensor, old: Tensor | None = None) -> Subspace:
    subspace = holding(new[:0] if old is None else old, new)
    rule(subspace, arrived(x))
    return subspace


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-13) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_one_step_by_hand() -> None:
    found = after(Hebbian(iterations=1), pair(1, 0), pair(2, 1))  # y = 2, what is left is (0, 1)
    assert_close(found.momentum, pair(0, 0.2), 1e-15)
    assert_close(found.new, pair(1, 0.002), 1e-15)


def test_a_step_is_the_mean_over_rows() -> None:
    found = after(Hebbian(iterations=1), pair(1, 0), torch.cat([pair(2, 1), pair(0, 4)]))  # y = 0 at the second
    assert_close(found.momentum, pair(0, 0.1), 1e-15)


def test_an_entry_of_a_step_is_at_most_the_clamp() -> None:
    found = after(Hebbian(iterations=1), pair(1, 0), pair(20, -10))  # -200, were it not for the clamp
    assert_close(found.momentum, pair(0, -1), 1e-15)
    assert_close(after(Hebbian(iterations=1, clamp=3), pair(1, 0), pair(20, -10)).new, pair(1, -0.003), 1e-15)


def test_old_rows_take_their_part_of_what_is_seen() -> None:
    found = after(Hebbian(iterations=1), pair(1, 0), pair(2, 1), old=pair(0, 0.5))  # what is left is (0, 0.75)
    assert_close(found.momentum, pair(0, 0.15), 1e-15)


def test_the_second_step_keeps_nine_tenths_of_the_first() -> None:
    found = after(Hebbian(rate=1.0, iterations=2), pair(1, 0), pair(2, 1))
    # The first leads to (1, 0.2) with y = 2.2, which leaves (-0.2, 0.56).
    assert_close(found.momentum, pair(-0.044, 0.9 * 0.2 + 0.1 * 2.2 * 0.56), 1e-15)
    assert_close(found.new, pair(1 - 0.044, 0.2 + 0.3032), 1e-15)


@pytest.mark.parametrize("pieces", [(2,), (5, 5), (13, 1, 6), (40,)], ids=str)
@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 3), (2, 1), (3, 3)])
def test_equals_the_explicit_program(old: int, new: int, pieces: tuple[int, ...]) -> None:
    before, fresh, momentum = 1.1 * basis(old, SIZE, seed=1), drawn(new, SIZE, seed=2), drawn(new, SIZE, seed=3)
    x = [3 * drawn(count, SIZE, seed=10 + i) for i, count in enumerate(pieces)]  # large enough to be clamped
    subspace = holding(before, fresh, momentum)
    Hebbian(rate=0.02)(subspace, arrived(*x))
    expected, carried = learned(before, fresh, momentum, torch.cat(x), rate=0.02)
    assert_close(subspace.new, expected)
    assert_close(subspace.momentum, carried)
    assert torch.equal(subspace.old, before)


@pytest.mark.parametrize("count", [1, 4, 12, 13, 200])
def test_rows_and_their_second_moment_teach_the_same(count: int) -> None:
    found = []
    for whole in (True, False):
        subspace, rows = holding(basis(2, SIZE), drawn(2, SIZE, seed=2)), arrived(drawn(count, SIZE), whole=whole)
        if not whole:
            assert rows.moment is not None and rows.kept is None  # asked for, they are summed up
        Hebbian(rate=0.1)(subspace, rows)
        found.append(subspace.new)
    assert_close(*found)


def test_bursts_teach_as_the_explicit_program_says() -> None:
    lateral = Lateral(steps=4, scale=2.0)
    x, old, new = drawn(30, SIZE), basis(2, SIZE, seed=1), drawn(2, SIZE, seed=2)
    subspace = holding(old, new, lateral=lateral)
    Hebbian(rate=0.05)(subspace, arrived(x, whole=True))
    expected, _ = learned(old, new, torch.zeros_like(new), x, rate=0.05, burst=lateral)
    assert_close(subspace.new, expected)
    assert (subspace.new - learned(old, new, torch.zeros_like(new), x, rate=0.05)[0]).abs().max() > 1e-3


def test_a_rotated_world_rotates_what_is_learned() -> None:
    x, old, new, turn = drawn(50, SIZE), basis(2, SIZE, seed=1), 0.3 * drawn(2, SIZE, seed=2), basis(SIZE, SIZE, seed=3)
    plain, turned = holding(old, new), holding(old @ turn.T, new @ turn.T)
    for _ in range(20):
        Hebbian(rate=0.05)(plain, arrived(x))
        Hebbian(rate=0.05)(turned, arrived(x @ turn.T))
    assert_close(turned.new, plain.new @ turn.T)
    assert (plain.new - new).abs().max() > 0.1


def test_nothing_to_learn_with_or_from() -> None:
    rule, empty = Hebbian(), drawn(0, SIZE)
    subspace = holding(basis(2, SIZE), empty)
    rule(subspace, arrived(drawn(5, SIZE)))
    assert subspace.new.shape == (0, SIZE) and torch.equal(subspace.old, basis(2, SIZE))
    subspace = holding(empty, basis(2, SIZE), drawn(2, SIZE))
    rule(subspace, arrived(empty))
    assert torch.equal(subspace.new, basis(2, SIZE)) and torch.equal(subspace.momentum, drawn(2, SIZE))


def test_what_is_learned_has_no_graph() -> None:
    subspace = holding(drawn(0, SIZE), basis(2, SIZE))
    Hebbian()(subspace, arrived(drawn(5, SIZE).requires_grad_()))
    assert not subspace.new.requires_grad and not subspace.momentum.requires_grad


WRONG = [{"rate": 0.0}, {"rate": -1.0}, {"iterations": 0}, {"momentum": 1.0}, {"momentum": -0.1}, {"clamp": 0.0}]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_refuses_arguments_out_of_range(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Hebbian(**wrong)
