"""The trace kernel against the naive trace and the naive sum."""

import pytest
import torch

from spikewright.kernels.rate import accumulate_naive
from spikewright.kernels.trace import trace_naive
from tests.kernels_gpu.support import draw, every_dtype, trace, wide


@every_dtype
@pytest.mark.parametrize("shape", [(1, 1), (4, 127), (3, 2, 67), (33, 5), (5,)])
def test_twins(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    states = wide(dtype)
    x = draw(*shape, dtype=dtype)
    leaks = draw(*shape[1:], dtype=states, low=0.2, high=1, seed=2)
    for before in (None, draw(*shape[1:], dtype=states, seed=1)):
        for each in (None, leaks):
            traces, after = trace(x, before, each, 0.7)
            expected, last = trace_naive(x.to(states), before, 0.7 if each is None else each)
            assert (traces.dtype, after.dtype) == (states, states)
            assert torch.equal(traces, expected) and torch.equal(after, last)
            _, total = trace(x, before, each, 0.7, every=False)
            assert torch.equal(total, accumulate_naive(x.to(states), before, 0.7 if each is None else each))


def test_a_repeated_step_is_read_again_and_again() -> None:
    x = draw(1, 2, 67)
    found, copied = trace(x.expand(5, 2, 67), None, None, 0.7), trace(x.repeat(5, 1, 1), None, None, 0.7)
    assert torch.equal(found[0], copied[0]) and torch.equal(found[1], copied[1])
