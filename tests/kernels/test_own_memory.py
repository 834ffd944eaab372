"""What a scan returns and keeps has memory of its own, and no more of it than it needs."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_scan
from spikewright.kernels.rate import accumulate
from spikewright.kernels.trace import trace_naive, trace_scan
from spikewright.metrics import SavedBytes
from tests.kernels.support import DEFAULTS, draw, needs_kernels

pytestmark = needs_kernels


def writers() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (case, a tensor that may be written to, one that must not see it)."""
    for steps, carried in product((1, 3), (None, draw(2, 5, seed=1))):
        x, case = draw(steps, 2, 5), f"{steps} steps, {'rest' if carried is None else 'carried'}"
        traces, after = trace_scan(x, carried, 0.5)
        total = accumulate(x, carried)
        spikes, membrane = lif_scan(x, carried, **DEFAULTS)
        yield f"current, spikes, {case}", x, spikes
        yield f"current, membrane, {case}", x, membrane
        yield f"input, traces, {case}", x, traces
        yield f"input, last trace, {case}", x, after
        yield f"input, rate, {case}", x, total
        yield f"traces, last trace, {case}", traces, after
        if carried is not None:
            yield f"carried, membrane, {case}", carried, membrane
            yield f"carried, last trace, {case}", carried, after
            yield f"carried, rate, {case}", carried, total


def test_a_caller_may_write_to_what_it_gave_and_what_it_got() -> None:
    for case, written, kept in writers():
        before = kept.clone()
        written.fill_(7.0)
        assert torch.equal(kept, before), case


def test_without_kernels_too() -> None:
    traces, after = trace_naive(draw(1, 2, 5), None, 0.5)
    before = after.clone()
    traces.fill_(7.0)
    assert torch.equal(after, before)


@pytest.mark.parametrize("through_time", [True, False])
def test_a_scan_keeps_its_first_membrane_and_its_leaks_beside_one_tensor(through_time: bool) -> None:
    x, before = draw(7, 2, 5).requires_grad_(), draw(2, 5, seed=1).requires_grad_()
    leak = draw(2, 5, low=0.2, high=1.0).requires_grad_()
    for given, others in ((0.5, 1), (leak.detach(), 2), (leak, 2)):
        options: dict[str, Any] = DEFAULTS | {"through_time": through_time, "leak": given}
        with SavedBytes() as saved:
            kept = lif_scan(x, before, **options)
        assert saved.alive == (x.numel() + others * before.numel()) * x.itemsize
        del kept
