"""Delayed signals and what a delay learns from, on plain tensors, against sums written out."""

import math

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.kernels.delays import check_delay_grad, delayed, kernel_slope, shares, slope, straight_through
from tests.oracles.delay import epsilon, kappa, slope_at

PAST, STEPS = 5, 9


def spikes(steps: int = STEPS) -> Tensor:
    """`[time, batch=2, channel=4]`."""
    return (torch.rand(steps, 2, 4) > 0.6).double()


def test_what_was_sent_some_steps_ago_arrives_and_its_error_goes_back_there() -> None:
    signal, delay = torch.randn(PAST + STEPS, 2, 4, requires_grad=True), torch.tensor([0.0, 1.0, 3.0, 5.0])
    error = torch.randn(STEPS, 2, 4)
    arrived = delayed(signal, delay, STEPS)
    (back,) = torch.autograd.grad(arrived, signal, error)
    expected = torch.zeros_like(signal)
    for c, d in enumerate((0, 1, 3, 5)):
        for t in range(STEPS):
            assert torch.equal(arrived[t, :, c], signal[PAST + t - d, :, c])
            expected[PAST + t - d, :, c] = error[t, :, c]
    assert torch.equal(back, expected)


def test_delays_may_differ_from_sample_to_sample() -> None:
    signal, delay = torch.randn(PAST + STEPS, 2, 4), torch.randint(PAST + 1, (2, 4))
    arrived = delayed(signal, delay, STEPS)
    for (b, c), d in zip(((b, c) for b in range(2) for c in range(4)), delay.flatten().tolist()):
        assert torch.equal(arrived[:, b, c], signal[PAST - d : PAST - d + STEPS, b, c])


def test_the_error_of_a_delay_is_that_of_what_arrived_times_the_slope() -> None:
    delay, q, error = torch.rand(4, requires_grad=True), torch.randn(STEPS, 2, 4), torch.randn(STEPS, 2, 4)
    before = torch.randn(STEPS, 2, 4, requires_grad=True)
    arrived = straight_through(before, delay, q)
    assert torch.equal(arrived, before)
    for_delay, for_signal = torch.autograd.grad(arrived, (delay, before), error)
    torch.testing.assert_close(for_delay, (error * q).sum((0, 1)))
    assert torch.equal(for_signal, error)


@pytest.mark.parametrize("tau", [0.7, 4.0, 30.0])
def test_slopes_are_the_formulas(tau: float) -> None:
    s = spikes()
    started = torch.cat([torch.zeros_like(s[:1]), s])
    for t in range(STEPS):
        assert torch.equal(slope(started)[t], slope_at(s, t, "finite_difference", tau))
        torch.testing.assert_close(slope(started, tau)[t], slope_at(s, t, "exact", tau), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("tau", [0.7, 4.0, 30.0])
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_the_recurrence_is_the_sum_over_the_kernel(tau: float, cut: int) -> None:
    s, pieces, sums = torch.randn(STEPS, 2, 4), [], None
    for piece in (s[:cut], s[cut:]):
        if len(piece):
            found, sums = kernel_slope(piece, tau, sums)
            pieces.append(found)
    direct = torch.stack([-sum(kappa(t - k, tau) * s[k] for k in range(t + 1)) for t in range(STEPS)])  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat(pieces), direct, rtol=1e-13, atol=1e-14)


def test_sums_of_half_precision_are_kept_in_full() -> None:
    found, sums = kernel_slope(spikes().half(), 4.0)
    assert found.dtype == torch.float16 and {part.dtype for part in sums} == {torch.float32}


@pytest.mark.parametrize("tau", [0.7, 4.0, 30.0])
@pytest.mark.parametrize("rest", [0.0, 0.25, 0.9, 1.0])
def test_two_shares_make_the_response_to_a_spike_between_two_steps(tau: float, rest: float) -> None:
    early, late = (share.item() for share in shares(torch.tensor(rest), tau))
    for age in range(12):
        after = late * epsilon(age - 1, tau) if age else 0.0
        assert early * epsilon(age, tau) + after == pytest.approx(epsilon(age - rest, tau), rel=1e-12, abs=1e-14)


def test_shares_without_a_time_constant_are_linear() -> None:
    rest = torch.linspace(0, 1, 5)
    early, late = shares(rest)
    assert torch.equal(early, 1 - rest) and torch.equal(late, rest)


@pytest.mark.parametrize("tau", [0.7, 4.0, math.inf])
def test_the_slope_is_the_derivative_of_the_shares_at_a_whole_delay(tau: float) -> None:
    rest = torch.zeros((), requires_grad=True)
    now, before = (torch.autograd.grad(share, rest)[0] for share in shares(rest, tau))
    s = torch.randn(2, 3)
    torch.testing.assert_close(slope(s, tau)[0], now * s[1] + before * s[0], rtol=1e-14, atol=1e-14)


def test_the_finite_difference_is_what_one_more_step_changes_in_a_linear_readout() -> None:
    s, readout = torch.cat([torch.zeros(PAST, 2, 4), spikes()]), torch.randn(STEPS, 2, 4)

    def loss(delay: Tensor) -> Tensor:
        return (readout * delayed(s, delay, STEPS)).sum((0, 1))

    whole = torch.tensor([0.0, 1.0, 2.0, 4.0])
    delay = whole.clone().requires_grad_()
    arrived = straight_through(delayed(s, whole, STEPS), delay, delayed(slope(s), whole, STEPS))
    (found,) = torch.autograd.grad((readout * arrived).sum(), delay)
    torch.testing.assert_close(found, loss(whole + 1) - loss(whole), rtol=1e-13, atol=1e-13)


def test_which_slopes_there_are() -> None:
    for kind, tau in (("finite_difference", None), ("exact", 4.0), ("reference", 0.5)):
        check_delay_grad("Part", kind, tau)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Part\(delay_grad='exakt'\) is unknown. Did you mean 'exact'"):
        check_delay_grad("Part", "exakt", None)  # type: ignore[arg-type]
    for tau in (None, 0.0, -1.0, math.inf, math.nan):
        for kind in ("exact", "reference"):
            with pytest.raises(
                ConfigError, match=rf"delay_grad='{kind}', tau={tau}\): .*alpha-shaped.*tau of the Alpha"
            ):
                check_delay_grad("Part", kind, tau)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"'finite_difference', tau=4.0\): .* tau says nothing. Leave it out, or use"):
        check_delay_grad("Part", "finite_difference", 4.0)
