"""The operators as they run on this machine: on its GPU, or interpreted; and what the naive scans make of the same."""

import pytest
import torch
from torch import Tensor

from spikewright.kernels import gpu
from spikewright.kernels.lif import lif_naive
from spikewright.surrogate import Surrogate

pytest.importorskip("triton", reason="Triton is not installed (pip install triton).", exc_type=ImportError)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def draw(
    *shape: int, dtype: torch.dtype = torch.float32, low: float = -0.4, high: float = 1.4, seed: int = 0
) -> Tensor:
    """Draw what makes about half of the neurons fire."""
    source = torch.Generator().manual_seed(seed + sum(shape))
    return (low + (high - low) * torch.rand(shape, generator=source, dtype=torch.float64)).to(DEVICE, dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def lif(
    current: Tensor,
    membrane: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if current.is_cuda:
        return torch.ops.spikewright.lif(current, membrane, leaks, leak, threshold, reset_amount, subtract, keep)
    spikes = current.new_full(current.shape, 7)
    potential = current.new_full(current.shape, 7, dtype=wide(current.dtype))
    after = torch.full_like(potential[0], 7)
    kept = potential if keep else None
    gpu.call("lif", current, membrane, leaks, leak, threshold, reset_amount, subtract, spikes, kept, after)
    return spikes, potential, after


def lif_backward(
    potential: Tensor, grad_spikes: Tensor | None, grad_after: Tensor | None, *options: Tensor | float | None
) -> tuple[Tensor, Tensor]:
    """Take the arguments of the operator, except for those that would have it run again."""
    again = (False, None)
    if potential.is_cuda:
        return torch.ops.spikewright.lif_backward(potential, *again, grad_spikes, grad_after, *options)
    arriving = potential if grad_spikes is None else grad_spikes
    grads = torch.full_like(arriving, 7, dtype=arriving.dtype), torch.full_like(potential[0], 7)
    gpu.call("lif_backward", potential, *again, grad_spikes, grad_after, *options, *grads)
    return grads


def trace(
    x: Tensor, before: Tensor | None, leaks: Tensor | None, leak: float, every: bool = True
) -> tuple[Tensor, Tensor]:
    if x.is_cuda:
        return torch.ops.spikewright.trace(x, before, leaks, leak, every)
    traces = x.new_full(x.shape, 7, dtype=wide(x.dtype))
    after = torch.full_like(traces[0], 7)
    gpu.call("trace", x, before, leaks, leak, traces if every else None, after)
    return traces, after


def naive(
    current: Tensor,
    membrane: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    *,
    grad_spikes: Tensor | None,
    grad_after: Tensor | None,
    surrogate: Surrogate,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    detach_reset: bool,
    through_time: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return spikes, membrane and the gradients of current and first membrane, in the precision of states."""
    precision = wide(current.dtype)
    first = torch.zeros_like(current[0], dtype=precision) if membrane is None else membrane.clone()
    x, first = current.to(precision).requires_grad_(), first.requires_grad_()
    spikes, after = lif_naive(
        x,
        first,
        leak=leak if leaks is None else leaks,
        threshold=threshold,
        reset_amount=reset_amount,
        reset="subtract" if subtract else "zero",
        detach_reset=detach_reset,
        surrogate=surrogate,
        through_time=through_time,
    )
    arrived = [(y, g.to(precision)) for y, g in ((spikes, grad_spikes), (after, grad_after)) if g is not None]
    grad_x, grad_first = torch.autograd.grad([y for y, _ in arrived], [x, first], [g for _, g in arrived])
    return spikes.detach(), after.detach(), grad_x, grad_first


def assert_close(found: Tensor, expected: Tensor, case: object) -> None:
    """Allow for roundings of the precision in which `found` is stored, and of sums over a few steps."""
    tolerance = 8 * torch.finfo(found.dtype).eps
    error = (found.to(expected.dtype) - expected).abs() - tolerance * (1 + expected.abs())
    assert error.max() <= 0, f"{case}: off by {error.max():.2g} more than {tolerance:.2g}"
