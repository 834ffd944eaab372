"""A soft reset that takes off another amount than the threshold."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_naive, lif_scan
from spikewright.surrogate import ATan, Sigmoid
from tests.kernels.support import (
    DEFAULTS,
    Scan,
    assert_identical,
    assert_twins,
    at_both,
    at_membrane,
    at_spikes,
    draw,
    needs_kernels,
    run,
)
from tests.kernels.test_lif import every_option, every_precision

pytestmark = needs_kernels

every_reset_amount = pytest.mark.parametrize("reset_amount", [0.0, 0.3, 1.7])
"""None at all, less than the threshold of 1, more."""
every_scan = pytest.mark.parametrize("scan", [lif_naive, lif_scan])


@every_scan
@pytest.mark.parametrize(
    ("reset_amount", "spikes", "membrane"),
    [(None, [1, 1, 1, 0], 0.875), (0.0, [1, 1, 1, 1], 1.75), (2.0, [1, 0, 1, 0], 0.5)],
)
def test_by_hand(reset_amount: float | None, spikes: list[int], membrane: float, scan: Scan) -> None:
    """Potentials before the reset: 1.5, 1, 1.25, 0.875; 1.5, 1.5, 2, 1.75; 1.5, 0.5, 1.5, 0.5."""
    x = torch.tensor([1.5, 0.75, 1.25, 0.75], dtype=torch.float64).view(-1, 1, 1)
    found = run(scan, x, leak=0.5, threshold=1.0, reset_amount=reset_amount)
    assert (found.spikes.flatten().tolist(), found.membrane.item()) == (spikes, membrane)


@every_scan
@pytest.mark.parametrize("reset_amount", [None, 0.3, 1.7])
def test_an_attached_reset_passes_back_the_quantum_times_the_slope(reset_amount: float | None, scan: Scan) -> None:
    """One step: dv/dI = 1 - R ds/du, the slope taken at the threshold's distance whatever that amount is."""
    x, threshold, surrogate = draw(1, 2, 9, dtype=torch.float64), 0.8, Sigmoid(3.0)
    ones = lambda _, membrane: (None, torch.ones_like(membrane))  # noqa: E731
    options: dict[str, Any] = {
        "threshold": threshold,
        "reset_amount": reset_amount,
        "surrogate": surrogate,
        "arriving": ones,
    }
    found = run(scan, x, detach_reset=False, **options).grads["current"]
    expected = 1 - (threshold if reset_amount is None else reset_amount) * surrogate.slope(x - threshold)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    assert torch.equal(run(scan, x, **options).grads["current"], torch.ones_like(x))


@every_precision
@every_option
@every_reset_amount
def test_twins(reset_amount: float, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Every operand, from rest or not, with the potential kept or found again over more than the 32 steps at a time."""
    before, leaks = draw(67, dtype=dtype, seed=1), draw(67, dtype=dtype, low=0.2, high=1.0)
    given = options | {"reset_amount": reset_amount, "surrogate": ATan(2.0)}
    for steps, membrane, leak in product((1, 3, 9, 70), (None, before), (0.9, leaks)):
        x = draw(steps, 67, dtype=dtype)
        for arriving in (at_both, at_spikes, at_membrane):
            case = f"{steps} steps, {membrane is None}, {type(leak).__name__}, {arriving.__name__}"
            found = assert_twins(x, membrane, leak=leak, arriving=arriving, case=case, **given)
        assert 0.02 < found.spikes.mean() < 0.98


@every_precision
@every_option
@every_reset_amount
def test_a_sequence_in_pieces_is_the_whole(reset_amount: float, options: dict[str, Any], dtype: torch.dtype) -> None:
    x, before = draw(45, 2, 67, dtype=dtype), draw(2, 67, dtype=dtype, seed=1)

    def in_pieces(current: Tensor, membrane: Tensor | None, **others: Any) -> tuple[Tensor, Tensor]:
        spikes = []
        for piece in current.split([3, 1, 41]):
            fired, membrane = lif_scan(piece, membrane, **others)
            spikes.append(fired)
        assert membrane is not None
        return torch.cat(spikes), membrane

    whole, pieces = (
        run(scan, x, before, leak=0.9, reset_amount=reset_amount, **options) for scan in (lif_scan, in_pieces)
    )
    assert_identical(pieces.spikes, whole.spikes)
    assert_identical(pieces.membrane, whole.membrane)
    for name, grad in whole.grads.items():
        assert_identical(pieces.grads[name], grad, name)


@every_precision
@pytest.mark.parametrize("detached", [True, False])
def test_a_hard_reset_ignores_it(detached: bool, dtype: torch.dtype) -> None:
    x, leak = draw(9, 67, dtype=dtype), draw(67, dtype=dtype, low=0.2, high=1.0)
    for scan, reset in product((lif_naive, lif_scan), ("zero", "subtract")):
        options: dict[str, Any] = {"leak": leak, "reset": reset, "detach_reset": detached}
        plain, other = (run(scan, x, reset_amount=reset_amount, **options) for reset_amount in (None, 0.3))
        pairs = [(plain.spikes, other.spikes), (plain.membrane, other.membrane)]
        pairs += [(grad, other.grads[name]) for name, grad in plain.grads.items()]
        assert len(pairs) == 4
        assert all(torch.equal(*pair) == (reset == "zero") for pair in pairs)


@every_option
def test_it_is_the_threshold_unless_it_is_given(options: dict[str, Any]) -> None:
    x, leak = draw(9, 67), draw(67, low=0.2, high=1.0)
    for scan, given in product((lif_naive, lif_scan), (0.7, leak)):
        unsaid = run(scan, x, leak=given, threshold=0.7, **options)
        said = run(scan, x, leak=given, threshold=0.7, reset_amount=0.7, **options)
        assert_identical(said.spikes, unsaid.spikes)
        assert_identical(said.membrane, unsaid.membrane)
        assert unsaid.grads and said.grads.keys() == unsaid.grads.keys()
        for name, grad in unsaid.grads.items():
            assert_identical(said.grads[name], grad, name)


@every_reset_amount
def test_without_a_graph(reset_amount: float) -> None:
    x, before = draw(9, 67), draw(67, seed=1)
    options: dict[str, Any] = DEFAULTS | {"reset_amount": reset_amount}
    with torch.no_grad():
        found, expected = (scan(x, before, **options) for scan in (lif_scan, lif_naive))
    for one, other in zip(found, expected):
        assert_identical(one, other)


@every_reset_amount
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_in_half_precision(reset_amount: float, dtype: torch.dtype) -> None:
    x = draw(9, 67).to(dtype)
    options: dict[str, Any] = DEFAULTS | {"reset_amount": reset_amount}
    (spikes, membrane), (expected, last) = lif_scan(x, None, **options), lif_naive(x.float(), None, **options)
    assert_identical(spikes, expected.to(dtype))
    assert_identical(membrane, last)
