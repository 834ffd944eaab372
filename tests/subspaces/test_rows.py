"""What is kept of rows that come in pieces: themselves or their second moment, and never much of either."""

import pytest
import torch

from spikewright.rules.continual.subspaces import Rows
from tests.subspaces.support import arrived, drawn

SIZE = 5


def numbers(rows: Rows) -> int:
    """How many numbers an object keeps, wherever it keeps them."""
    found = [v for value in vars(rows).values() for v in (value if isinstance(value, list) else [value])]
    return sum(tensor.numel() for tensor in found if isinstance(tensor, torch.Tensor))


def test_memory_does_not_grow_with_the_number_of_pieces() -> None:
    rows, kept = Rows(SIZE), []
    for piece in range(200):
        rows.add(drawn(3, SIZE, seed=piece))
        kept.append(numbers(rows))
    assert kept[0] == 3 * SIZE  # as they are, while they are few
    assert max(kept) <= 2 * SIZE * SIZE + SIZE * SIZE
    assert max(kept[:20]) == max(kept[100:])
    assert rows.count == 600


def test_whole_rows_are_kept() -> None:
    pieces = [drawn(3, SIZE, seed=piece) for piece in range(20)]
    rows = arrived(*pieces, whole=True)
    assert rows.kept is not None and torch.equal(rows.kept, torch.cat(pieces))
    assert numbers(rows) == 60 * SIZE


@pytest.mark.parametrize("counts", [(1,), (10,), (11,), (4, 6, 1), (30, 2, 2), (2, 30)], ids=str)
def test_the_second_moment_is_the_mean_over_all_rows(counts: tuple[int, ...]) -> None:
    pieces = [drawn(count, SIZE, seed=i) for i, count in enumerate(counts)]
    x, rows = torch.cat(pieces), arrived(*pieces)
    few = len(x) <= 2 * SIZE
    assert (rows.kept is not None) == few
    expected = sum((torch.outer(row, row) for row in x), torch.zeros(SIZE, SIZE)) / len(x)
    torch.testing.assert_close(rows.moment, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(rows.moment, expected, rtol=0, atol=1e-14)  # asking does not use them up


def test_rows_that_follow_a_sum_are_counted_too() -> None:
    x = drawn(30, SIZE)
    rows = arrived(x[:20], x[20:25])
    assert rows.kept is None
    rows.add(x[25:])
    torch.testing.assert_close(rows.moment, x.T @ x / 30, rtol=0, atol=1e-14)


def test_low_precision_is_summed_in_full() -> None:
    x = torch.ones(1000, SIZE, dtype=torch.bfloat16) + 1 / 64
    rows = arrived(x)
    assert rows.moment.dtype == torch.float32
    torch.testing.assert_close(rows.moment.double(), torch.full((SIZE, SIZE), (1 + 1 / 64) ** 2), rtol=1e-5, atol=0)


def test_rows_have_no_graph() -> None:
    few, many = arrived(drawn(2, SIZE).requires_grad_()), arrived(drawn(50, SIZE).requires_grad_())
    assert few.kept is not None and not few.kept.requires_grad and not many.moment.requires_grad
