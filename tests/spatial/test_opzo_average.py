"""The running mean of OPZO: what a matrix is after k steps, exactly, for noise that is balanced over each batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.spatial import DFA, OPZO
from tests.spatial.support import drawn, learned, on_paper

NEURONS, COMPONENTS, STEPS, ALPHA, MOMENTUM = 3, 4, 7, 0.25, 0.8
KEPT = MOMENTUM ** torch.arange(1, STEPS + 1, dtype=torch.float64)[:, None, None]
"""The share of its first value that a matrix has kept after each step."""


def balanced() -> Tensor:
    """Noise whose mean over the batch is exactly 0, and whose mean square exactly the identity."""
    one = NEURONS**0.5 * torch.eye(NEURONS)
    return torch.cat([one, -one]).expand(STEPS, -1, -1)


def matrices(**options: Any) -> tuple[Tensor, Tensor]:
    """What is learned of a linear map step by step, and its transposed Jacobian."""
    jacobian, z = torch.randn(COMPONENTS, NEURONS), balanced()
    way = on_paper(OPZO(MOMENTUM, ALPHA, **options), COMPONENTS, h=NEURONS)
    return learned(way, ALPHA * z @ jacobian.T + 3.0, h=z)["h"], jacobian.T


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-12, atol=1e-12)


def test_an_average_that_starts_at_nothing_grows_into_the_jacobian() -> None:
    found, jacobian = matrices(debias=False)
    assert_equal(found, (1 - KEPT) * jacobian)


def test_without_its_bias_it_has_the_full_size_from_the_first_step_on() -> None:
    assert_equal(*matrices())


def test_without_division_by_alpha_all_is_alpha_times_smaller() -> None:
    found, jacobian = matrices(scale_by_alpha=False)
    assert_equal(found, ALPHA * jacobian)


def test_a_first_matrix_fades() -> None:
    begun = on_paper(DFA(seed=5), COMPONENTS, h=NEURONS).matrices["output h"]
    found, jacobian = matrices(init="dfa", seed=5)
    assert_equal(found, (1 - KEPT) * jacobian + KEPT * begun)


def test_what_is_kept_is_the_average_itself_and_every_step_is_counted_once() -> None:
    jacobian, z = torch.randn(COMPONENTS, NEURONS), balanced()
    way = on_paper(OPZO(MOMENTUM, ALPHA), COMPONENTS, h=NEURONS, again=NEURONS)
    learned(way, ALPHA * z @ jacobian.T, h=z, again=z)
    assert int(way.steps) == STEPS
    assert_equal(way.matrices["output h"], (1 - KEPT[-1]) * jacobian.T)
    assert_equal(way.matrices["output again"], (1 - KEPT[-1]) * jacobian.T)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
@pytest.mark.long
def test_an_old_average_has_the_variance_of_its_window(momentum: float) -> None:
    components, batch, steps, skipped = 8, 8, 8000, 100
    way = on_paper(OPZO(momentum, 0.5), components, h=NEURONS)
    z = torch.randn(steps, batch, NEURONS)
    found = learned(way, torch.randn(steps, batch, components), h=z)["h"][skipped:]  # has nothing to do with the noise
    expected = (1 - momentum) / (1 + momentum) / batch / 0.5**2
    assert float(found.square().mean()) == pytest.approx(expected, rel=0.05)


def far_off(center_output: bool) -> Tensor:
    """What single steps say about a map whose output is never near 0, once its mean is known."""
    way = on_paper(OPZO(0.0, ALPHA, antithetic=False, center_output=center_output), COMPONENTS, h=NEURONS)
    z = drawn(way, 6000, COMPONENTS, NEURONS)
    return learned(way, ALPHA * z @ torch.ones(NEURONS, COMPONENTS) + 5.0, h=z)["h"]


@pytest.mark.long
def test_a_centred_output_leaves_the_mean_and_takes_the_variance() -> None:
    centred, plain = far_off(True), far_off(False)
    assert torch.equal(centred[0], plain[0])  # nothing is known of the mean before the first step
    centred, plain = centred[1000:], plain[1000:]
    assert float(plain.var(0).mean()) == pytest.approx((NEURONS + 1 + 25 / ALPHA**2) / COMPONENTS, rel=0.05)
    assert float(centred.var(0).mean()) == pytest.approx((NEURONS + 1) / COMPONENTS, rel=0.1)
    for found in (centred, plain):
        off = (found.mean(0) - 1) / (found.std(0) / len(found) ** 0.5)
        assert float(off.square().mean()) < 2.5, off
