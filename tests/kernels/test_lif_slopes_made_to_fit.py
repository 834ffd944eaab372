"""Slopes of a user's surrogate in another shape, type or layout stand for the same numbers in the kernel."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.surrogate import Surrogate
from tests.kernels.support import draw, needs_kernels, run

pytestmark = needs_kernels


class Given(Surrogate):
    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        self.answer = answer

    def slope(self, x: Tensor) -> Tensor:
        return self.answer(x)


def half(x: Tensor) -> Tensor:
    return torch.full_like(x, 0.5)


SAME: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "a single number": (lambda x: torch.tensor(0.5), half),
    "one per feature": (lambda x: half(x)[0, 0], half),
    "one per sample": (lambda x: half(x)[..., :1], half),
    "a number without memory": (lambda x: x.new_tensor(0.5).expand(x.shape), half),
    "one step": (lambda x: half(x)[:1].clone().expand(x.shape), half),
    "float32": (lambda x: half(x).float(), half),
    "float64": (lambda x: half(x).double(), half),
    "half precision": (lambda x: half(x).half(), half),
    "a window": (lambda x: x.abs() < 0.5, lambda x: (x.abs() < 0.5).to(x)),
    "integers": (lambda x: (x.abs() < 0.5).int(), lambda x: (x.abs() < 0.5).to(x)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", SAME)
def test_the_same_numbers(name: str, batch: int, dtype: torch.dtype) -> None:
    answer, expected = SAME[name]
    x = draw(4, batch, 7, dtype=dtype)
    found = run(lif_scan, x, reset="subtract", detach_reset=True, surrogate=Given(answer)).grads["current"]
    for scan in (lif_scan, lif_naive):
        wanted = run(scan, x, reset="subtract", detach_reset=True, surrogate=Given(expected)).grads["current"]
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    assert found.any()
