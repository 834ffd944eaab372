"""A fused scan and its naive twin on the same operands: outputs equal to the bit, gradients up to roundings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels import native
from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.surrogate import Sigmoid

needs_kernels = pytest.mark.skipif(native._KERNELS is None, reason=f"there are no compiled kernels: {native._REASON}")

Scan = Callable[..., tuple[Tensor, Tensor]]
Arriving = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]
"""Says which gradients arrive at spikes and membrane."""

DEFAULTS: dict[str, Any] = {
    "leak": 0.5,
    "threshold": 1.0,
    "reset": "subtract",
    "detach_reset": True,
    "surrogate": Sigmoid(4.0),
    "through_time": True,
}
"""The options of a scan where a test does not say otherwise."""


@dataclass(frozen=True)
class Ran:
    """What a scan returned, and the gradients of those operands that want one."""

    spikes: Tensor
    membrane: Tensor
    grads: dict[str, Tensor]


def draw(
    *shape: int, dtype: torch.dtype = torch.float32, low: float = -0.4, high: float = 1.4, seed: int = 0
) -> Tensor:
    """Draw what makes about half of the neurons fire."""
    source = torch.Generator().manual_seed(seed + sum(shape))
    return low + (high - low) * torch.rand(shape, generator=source, dtype=dtype)


def at_both(spikes: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (draw(*x.shape, dtype=x.dtype, low=-1, high=1, seed=9) for x in (spikes, membrane))
    return first, second


def at_spikes(spikes: Tensor, membrane: Tensor) -> tuple[Tensor, None]:
    return at_both(spikes, membrane)[0], None


def at_membrane(spikes: Tensor, membrane: Tensor) -> tuple[None, Tensor]:
    return None, at_both(spikes, membrane)[1]


def run(
    scan: Scan,
    current: Tensor,
    membrane: Tensor | None = None,
    *,
    arriving: Arriving = at_both,
    fixed: tuple[str, ...] = (),
    **options: Any,
) -> Ran:
    """Run a scan forwards and back.  Operands keep their strides; those named in `fixed` want no gradient."""
    options = DEFAULTS | options
    operands = {"current": current, "membrane": membrane, "leak": options.pop("leak")}
    given = {k: v.detach().requires_grad_(k not in fixed) if isinstance(v, Tensor) else v for k, v in operands.items()}
    spikes, after = scan(given["current"], given["membrane"], leak=given["leak"], **options)
    arrived = [(y, g) for y, g in zip((spikes, after), arriving(spikes, after)) if g is not None and y.requires_grad]
    leaves = {k: v for k, v in given.items() if isinstance(v, Tensor) and v.requires_grad}
    grads = [None] * len(leaves)
    if arrived:
        grads = torch.autograd.grad(
            [y for y, _ in arrived], list(leaves.values()), [g for _, g in arrived], allow_unused=True
        )
    filled = {k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(leaves.items(), grads)}
    return Ran(spikes, after, filled)


def assert_identical(found: Tensor, expected: Tensor, case: object = "") -> None:
    """Equality to the last bit, the sign of a zero included; one NaN is like another."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), case
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[expected.itemsize]
    same = (found.detach().contiguous().view(integers) == expected.detach().contiguous().view(integers)) | (
        found.isnan() & expected.isnan()
    )
    wrong = (~same).nonzero()
    assert not len(wrong), f"{case}: {len(wrong)} of {same.numel()} differ, the first at {wrong[0].tolist()}"


def assert_close(found: Tensor, expected: Tensor, steps: int, size: float = 0.0, case: object = "") -> None:
    """Equality of gradients up to rounding, relative to the largest entry: 8 + T/4 units in the last place.

    That is 1e-6 in float32 for up to 4 steps.  In float64 it is four times as many, still below 1e-13 for 100 steps.
    `size` is that of terms which may have cancelled: their roundings have not.
    """
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), case
    largest = max(float(expected.abs().max()), size) or 1.0
    error = float((found - expected).abs().max()) / largest
    tolerance = (8 + steps / 4) * (1 if expected.dtype == torch.float32 else 4) * torch.finfo(expected.dtype).eps
    assert error <= tolerance, f"{case}: relative error {error:.1e}, tolerated {tolerance:.1e}"


def assert_twins(current: Tensor, membrane: Tensor | None = None, *, case: object = "", **options: Any) -> Ran:
    """Hold `lif_scan` to `lif_naive`, outputs and every gradient; return what the fused scan gave."""
    expected, found = (run(scan, current, membrane, **options) for scan in (lif_naive, lif_scan))
    assert_identical(found.spikes, expected.spikes, f"spikes, {case}")
    assert_identical(found.membrane, expected.membrane, f"membrane, {case}")
    assert found.membrane.requires_grad == expected.membrane.requires_grad, case
    assert found.grads.keys() == expected.grads.keys(), case
    # The naive slope of a sigmoid is alpha s (1 - s), where 1 - s cancels; a gradient of 1 arrives at most.
    peak = float((DEFAULTS | options)["surrogate"].slope(torch.zeros(())).max())
    on_the_way = max([peak, *(float(g.abs().max()) for g in expected.grads.values())])
    for name, grad in expected.grads.items():
        size = on_the_way if name == "membrane" else peak
        if name == "leak" and grad.shape != current.shape[1:]:  # a sum over the neurons that share it
            one_each = options | {"leak": options["leak"].expand(current.shape[1:]).clone()}
            each = run(lif_naive, current, membrane, **one_each).grads["leak"]
            size = float(each.abs().sum_to_size(grad.shape).max())
        assert_close(found.grads[name], grad, len(current), size, f"gradient of {name}, {case}")
    return found


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
