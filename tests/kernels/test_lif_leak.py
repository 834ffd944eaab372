"""The gradient of a learned leak, beyond what `test_lif.py` asks of every operand."""

import pytest
import torch

from spikewright.kernels.lif import lif_naive, lif_scan
from tests.kernels.support import assert_close, assert_twins, draw, needs_kernels, run

pytestmark = needs_kernels


def test_threshold_keeps_its_digits() -> None:
    """0.7 is another number in float32 than in float64."""
    assert_twins(draw(4, 3, 5, dtype=torch.float64), leak=draw(5, dtype=torch.float64, low=0.2, high=1), threshold=0.7)


@pytest.mark.parametrize(
    ("reset", "reset_amount"), [("subtract", None), ("subtract", 0.3), ("subtract", 1.8), ("zero", None)]
)
def test_is_what_finite_differences_say(reset: str, reset_amount: float | None) -> None:
    """Where nothing fires while the leak moves: membranes are then polynomials in the leak."""
    x, before = draw(5, 2, 3, dtype=torch.float64), draw(2, 3, dtype=torch.float64, seed=1)
    leak, step = torch.tensor([0.3, 0.5, 0.8], dtype=torch.float64), 1e-6
    options = {
        "reset": reset,
        "reset_amount": reset_amount,
        "arriving": lambda _, membrane: (None, torch.ones_like(membrane)),
    }
    found = run(lif_scan, x, before, leak=leak, **options)
    above, below = (run(lif_naive, x, before, leak=leak + e, **options) for e in (step, -step))
    assert torch.equal(above.spikes, below.spikes) and found.spikes.any()
    by_difference = (above.membrane - below.membrane).detach().sum(0) / (2 * step)
    torch.testing.assert_close(found.grads["leak"], by_difference, rtol=1e-8, atol=0)


def test_of_another_precision_than_the_current() -> None:
    """A leak in float64 scales a current in float32; its gradient comes back in float64."""
    x, leak = draw(4, 3, 5), draw(5, dtype=torch.float64, low=0.2, high=1)
    found, same = run(lif_scan, x, leak=leak), run(lif_scan, x, leak=leak.float())
    assert found.grads["leak"].dtype == torch.float64
    assert torch.equal(found.spikes, same.spikes)
    assert_close(found.grads["leak"].float(), same.grads["leak"], len(x))
