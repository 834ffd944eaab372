"""Batches of sequences of similar lengths."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikewright.data import bucketed
from spikewright.errors import ConfigError, InputError, ShapeError


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=70), st.integers(1, 9), st.integers(1, 5), st.integers(0, 9))
def test_every_sequence_once(lengths: list[int], batch_size: int, pool: int, seed: int) -> None:
    batches = bucketed(torch.tensor(lengths), batch_size, source(seed), pool)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    sizes = sorted(map(len, batches), reverse=True)
    assert all(size == batch_size for size in sizes[:-1]) and 1 <= sizes[-1] <= batch_size


def padded(lengths: torch.Tensor, batches: list[torch.Tensor]) -> int:
    return sum(int(lengths[batch].max()) * len(batch) for batch in batches) - int(lengths.sum())


def test_little_is_padded_and_the_order_is_random() -> None:
    lengths = torch.randint(5, 200, (1000,), generator=source(0))
    first, again, other = (bucketed(lengths, 20, source(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not all(torch.equal(a, b) for a, b in zip(first, other))
    assert {tuple(sorted(batch.tolist())) for batch in first} != {tuple(sorted(batch.tolist())) for batch in other}
    assert padded(lengths, first) < 0.1 * padded(lengths, bucketed(lengths, 20, source(1), pool=1))
    sorted_together = bucketed(lengths, 20, source(1), pool=50)
    means = torch.tensor([float(lengths[batch].float().mean()) for batch in sorted_together])
    rank = torch.corrcoef(torch.stack([means, torch.arange(len(means)).float()]))[0, 1]
    assert abs(float(rank)) < 0.5  # not from short to long
    within = bucketed(lengths, 1000, source(3), pool=1)[0]
    assert bool((lengths[within].diff() >= 0).all())


def test_one_generator_makes_other_epochs() -> None:
    lengths, generator = torch.arange(1, 101), source(0)
    first, second = bucketed(lengths, 10, generator, 2), bucketed(lengths, 10, generator, 2)
    assert not all(torch.equal(a, b) for a, b in zip(first, second))


def test_arguments_out_of_range() -> None:
    for wrong in torch.ones(3), torch.ones(2, 2, dtype=torch.int64), torch.ones(0, dtype=torch.int64):
        with pytest.raises(ShapeError, match=r"Give Sequences.steps"):
            bucketed(wrong, 2, source(0))
    with pytest.raises(InputError, match=r"lengths\[1\] = 0"):
        bucketed(torch.tensor([3, 0]), 2, source(0))
    for wrongly in {"batch_size": 0, "generator": source(0)}, {"batch_size": 1, "generator": 3}:
        with pytest.raises(ConfigError):
            bucketed(torch.tensor([3, 1]), **wrongly)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"pool"):
        bucketed(torch.tensor([3, 1]), 2, source(0), pool=0)
