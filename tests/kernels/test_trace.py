"""The trace scan and the running sum against their naive twins."""

import pytest
import torch
from torch import Tensor

from spikewright.kernels.rate import accumulate, accumulate_naive
from spikewright.kernels.trace import trace_naive, trace_scan
from tests.kernels.support import assert_identical, draw, needs_kernels, threads
from tests.kernels.test_lif import every_precision, leaks
from tests.kernels.test_lif_layouts import LAYOUTS, C, H, N, T, W, expansions

pytestmark = needs_kernels

Leak = float | Tensor


def assert_same(x: Tensor, before: Tensor | None, leak: Leak, case: object = "") -> None:
    """Hold both scans to their naive twins, to the last bit, and to having no graph and memory of their own."""
    (traces, trace), (every, last) = trace_scan(x, before, leak), trace_naive(x, before, leak)
    assert_identical(traces, every, f"traces, {case}")
    assert_identical(trace, last, f"trace, {case}")
    total = accumulate(x, before, leak)
    assert_identical(total, accumulate_naive(x, before, leak), f"total, {case}")
    assert not any(y.requires_grad for y in (traces, trace, total)), case
    arrived = [v for v in (x, before, leak) if isinstance(v, Tensor)]
    assert len({y.untyped_storage().data_ptr() for y in (*arrived, traces, trace, total)}) == len(arrived) + 3, case


@every_precision
def test_odd_sizes(dtype: torch.dtype) -> None:
    sizes = [(1, 1, 1), (1, 1, 63), (9, 1, 1), (2, 3, 63), (3, 1, 1023), (3, 1, 1024), (3, 1, 1025), (4, 1, 2049)]
    for size in [*sizes, (5,), (4, 3), (2, 3, 7, 5, 3)]:
        x = draw(*size, dtype=dtype)
        for before in (None, draw(*size[1:], dtype=dtype, seed=1)):
            assert_same(x, before, 0.9, size)
            assert_same(x, before, 1.0, size)


@every_precision
def test_every_kind_of_operand(dtype: torch.dtype) -> None:
    x, before = draw(4, 3, 5, 2, dtype=dtype), draw(3, 5, 2, dtype=dtype, seed=1)
    for kind, leak in leaks(3, 5, 2, dtype=dtype).items():
        assert_same(x, None, leak, kind)
        assert_same(x, before, leak, kind)


def test_every_layout() -> None:
    x, before, leak = draw(T, N, C, H, W), draw(N, C, H, W, seed=1), draw(C, 1, 1, low=0.2, high=1.0)
    arriving = {name: layout(x) for name, layout in LAYOUTS.items()} | expansions()
    for name, chunk in arriving.items():
        assert_same(chunk, before, leak, name)
        assert_same(chunk, None, 0.9, name)
    for name, layout in LAYOUTS.items():
        for chunk in (x, LAYOUTS["channels last"](x)):
            assert_same(chunk, layout(before.unsqueeze(0).expand(3, -1, -1, -1, -1))[2], leak, f"before is {name}")


@every_precision
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    for size in [(17, 1, 1023), (17, 1, 1025), (9, 1, 2049), (41, 1, 401), (2, 1, 1025)]:
        x, before = draw(*size, dtype=dtype), draw(*size[1:], dtype=dtype, seed=1)
        leak = draw(*size[1:], dtype=dtype, low=0.2, high=1.0, seed=2)
        with threads(2):
            assert_same(x, before, leak, size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    x = draw(6, 3, 37).to(dtype)
    for before in (None, draw(3, 37, seed=1)):
        traces, trace = trace_scan(x, before, 0.9)
        every, last = trace_naive(x.float(), before, 0.9)
        assert_identical(traces, every)
        assert_identical(trace, last)
        assert_identical(accumulate(x, before, 0.9), last)


def test_no_graph_even_where_the_operands_have_one() -> None:
    x, before = draw(3, 2, 5).requires_grad_(), draw(2, 5, seed=1).requires_grad_()
    traces, trace = trace_scan(x, before, draw(5).requires_grad_())
    assert not any(y.requires_grad for y in (traces, trace, accumulate(x, before)))


def test_the_plain_sum_is_the_default() -> None:
    x = draw(7, 2, 5)
    total = torch.zeros(2, 5)
    for step in x:
        total = total + step
    assert_identical(accumulate(x, None), total)
