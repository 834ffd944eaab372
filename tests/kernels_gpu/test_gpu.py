"""On a GPU: the scans from end to end, as layers call them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

import spikewright as sw
from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.kernels.operators import fused
from spikewright.kernels.rate import accumulate, accumulate_naive
from spikewright.kernels.trace import trace_naive, trace_scan
from spikewright.surrogate import Sigmoid
from tests.kernels_gpu.support import assert_close, draw, every_dtype, needs_gpu, wide

pytestmark = needs_gpu

OPTIONS: dict[str, Any] = {
    "threshold": 1.0,
    "reset": "subtract",
    "detach_reset": False,
    "surrogate": Sigmoid(4.0),
    "through_time": True,
}


def run(
    scan: Callable[..., Any], x: Tensor, membrane: Tensor, leak: Tensor, reset_amount: float | None
) -> list[Tensor]:
    """Return spikes, membrane and the gradients of all three operands."""
    operands = [operand.detach().requires_grad_() for operand in (x, membrane, leak)]
    spikes, after = scan(*operands[:2], leak=operands[2], reset_amount=reset_amount, **OPTIONS)
    arriving = [draw(*y.shape, dtype=y.dtype, low=-1, seed=7) for y in (spikes, after)]
    return [spikes, after, *torch.autograd.grad([spikes, after], operands, arriving)]


def naive(x: Tensor, membrane: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    spikes, after = lif_naive(x.to(wide(x.dtype)), membrane, **options)
    return spikes.to(x.dtype), after


@every_dtype
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("reset_amount", [None, 0.7])
def test_the_neuron_scan(reset_amount: float | None, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    x = draw(5 * 3, 4, 7, 6, dtype=dtype).to(memory_format=memory_format).unflatten(0, (5, 3))
    assert fused(x)
    operands = x, draw(3, 4, 7, 6, dtype=wide(dtype), seed=1), draw(4, 1, 1, dtype=wide(dtype), low=0.2, seed=2)
    found, expected = (run(scan, *operands, reset_amount) for scan in (lif_scan, naive))
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    for name, gradient, other in zip(("current", "membrane", "leak"), found[2:], expected[2:]):
        assert gradient.dtype == other.dtype
        if name == "leak":  # a sum over all neurons, of terms in the precision of the current
            assert (gradient - other).norm() <= 100 * torch.finfo(dtype).eps * other.norm()
        else:
            assert_close(gradient, other, name)


@every_dtype
def test_the_trace_and_rate_scans(dtype: torch.dtype) -> None:
    x, before, leak = draw(5, 3, 67, dtype=dtype), draw(3, 67, dtype=wide(dtype)), draw(67, dtype=wide(dtype), low=0.2)
    precise = x.to(wide(dtype))
    for found, expected in zip(trace_scan(x, before, leak), trace_naive(precise, before, leak)):
        assert torch.equal(found, expected)
    assert torch.equal(accumulate(x, before, leak), accumulate_naive(precise, before, leak))


def test_under_autocast_states_stay_in_float32() -> None:
    net = sw.Network(torch.nn.Sequential(torch.nn.Linear(8, 67), sw.LIF(), torch.nn.Linear(67, 3)).cuda())
    with torch.autocast("cuda", torch.bfloat16):
        output, state = net.run(draw(4, 2, 8))
    output.float().sum().backward()
    floating = [x.dtype for x in tree_leaves(state) if isinstance(x, Tensor)]
    assert floating and set(floating) == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_captured_graph_computes_anew_from_new_input() -> None:
    x, before, arriving = draw(4, 2, 67).requires_grad_(), draw(2, 67, seed=1), draw(4, 2, 67, seed=3)

    def step() -> tuple[Tensor, Tensor]:
        spikes, _ = lif_scan(x, before, leak=0.7, **OPTIONS)
        return spikes, torch.autograd.grad(spikes, x, arriving)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()  # compiles, which a capture must not
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        x.copy_(draw(4, 2, 67, seed=8))
    graph.replay()
    for replayed, expected in zip(captured, step()):
        assert torch.equal(replayed, expected)


@every_dtype
def test_the_operators_do_what_they_declare(dtype: torch.dtype) -> None:
    ops, check = torch.ops.spikewright, torch.library.opcheck
    x, state = draw(3, 2, 67, dtype=dtype), draw(2, 67, dtype=wide(dtype))
    potential = draw(3, 2, 67, dtype=wide(dtype))
    for flag in (True, False):
        options = (None, None, 0.7, 1.0, 0.8, True, flag, True, 1, 4.0, 0.3)
        calls = [
            check(ops.lif.default, (x, state, None, 0.7, 1.0, 0.8, True, flag)),
            check(ops.trace.default, (x, state, state, 0.0, flag)),
            check(ops.lif_backward.default, (potential, False, None, x if flag else None, state, *options)),
        ]
        assert all(outcome == "SUCCESS" for call in calls for outcome in call.values())


@pytest.mark.compile
def test_a_compiled_scan_is_one_graph() -> None:
    def scan(x: Tensor) -> Tensor:
        return lif_scan(x * 2, None, leak=0.7, **OPTIONS)[0]

    x = draw(4, 2, 67)
    assert torch.equal(torch.compile(scan, fullgraph=True)(x), scan(x))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_scan_runs_where_its_operands_are() -> None:
    x = draw(4, 2, 67).to("cuda:1")
    spikes, _ = lif_scan(x, None, leak=0.7, **OPTIONS)
    assert spikes.device == x.device and torch.equal(spikes, lif_naive(x, None, leak=0.7, **OPTIONS)[0])
