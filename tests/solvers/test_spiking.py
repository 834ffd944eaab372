"""Couples of one layer, and of a chain, that are taught by given errors."""

import math

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.solvers import Adjoint, Cell, Edge, Report, Spiking

DRIVES = torch.linspace(-1.2, 1.2, 24, dtype=torch.float64)


def layer(drives: Tensor, solver: Spiking, leak: float | Tensor = 1.0) -> tuple[Tensor, Report]:
    """The mean that each couple of `[batch, size]` sends, and the report."""
    emitted = torch.zeros_like(drives).requires_grad_()
    leaf = torch.rand_like(drives).requires_grad_()
    scale = solver.loss_scale * len(drives)
    value = (drives * leaf).sum() / scale
    total, report = solver.loss(value, Adjoint([Cell("1", emitted + 0, leaf, leak)], [], False))
    assert torch.equal(total, value)
    return scale * torch.autograd.grad(total, emitted)[0], report


def weight(leak: float, steps: int) -> float:
    return sum(leak**age for age in range(steps))


@pytest.mark.parametrize("threshold", [0.5, 2.0])
@pytest.mark.parametrize("loss_scale", [1.0, 3.0])
def test_a_constant_error_is_rounded_to_a_count(threshold: float, loss_scale: float) -> None:
    reset_amount = 2 * threshold
    mean, report = layer(reset_amount * DRIVES.view(4, 6), Spiking(30, threshold, loss_scale))
    counts = (30 * DRIVES).round().clamp(-30, 30)
    torch.testing.assert_close(30 * mean / reset_amount, counts.view(4, 6), rtol=1e-12, atol=1e-12)
    assert report.iterations == 30 and math.isnan(report.residual)
    assert report.rates == {"1": pytest.approx(counts.abs().mean().item() / 30)}


def test_a_couple_fires_at_its_threshold_on_both_sides() -> None:
    mean, _ = layer(DRIVES.sign().view(4, 6) * 0.5, Spiking(1, 0.5))
    assert torch.equal(mean, DRIVES.sign().view(4, 6))
    mean, report = layer(DRIVES.sign().view(4, 6) * 0.499, Spiking(1, 0.5))
    assert not mean.any() and report.silent == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_threshold_is_met_to_the_last_bit(dtype: torch.dtype) -> None:
    exact = torch.tensor([[0.3, -0.3]], dtype=dtype)
    below = torch.nextafter(exact, torch.zeros(1, 2, dtype=dtype))
    assert layer(exact, Spiking(1, 0.3))[0].sign().tolist() == [[1, -1]]
    assert not layer(below, Spiking(1, 0.3))[0].any()


def test_saturation_is_counted_and_said() -> None:
    solver = Spiking(50, saturation=0.5)
    mean, report = layer(DRIVES.view(1, 24), solver)
    over = DRIVES.abs() > 1
    assert report.saturated == over.double().mean() == pytest.approx(4 / 24)
    assert report.converged and report.reason == "" and mean.abs().max() == 1
    solver.saturation = 0.16
    report = layer(DRIVES.view(1, 24), solver)[1]
    assert not report.converged and report.saturated == pytest.approx(4 / 24)
    assert report.reason.startswith("16.7% of the pairs at '1' are saturated: they are driven by more than the 1 ")
    assert "Lower loss_scale (1), or restrict the feedback" in report.reason


def test_the_layer_that_is_worst_is_named() -> None:
    cells = [Cell(str(i), torch.zeros(1, 4).requires_grad_() + 0, torch.zeros(1, 4).requires_grad_()) for i in range(3)]
    drives = torch.tensor([[0.5, 0.5, 0.5, 3.0], [0.5, 3.0, -3.0, 3.0], [0.5, 0.5, 3.0, 3.0]])
    value = torch.stack([(drive * cell.leaf).sum() for drive, cell in zip(drives, cells)]).sum()
    report = Spiking(20).loss(value, Adjoint(cells, [], False))[1]
    assert report.saturated == 0.75 and "75.0% of the pairs at '1'" in report.reason
    assert report.rates == {"0": (0.5 * 3 + 1) / 4, "1": (0.5 + 3) / 4, "2": (0.5 * 2 + 2) / 4}


def test_couples_that_are_driven_and_never_fire_are_silent() -> None:
    drives = torch.tensor([[0.0, 0.0, 0.01, -0.01, 0.04, 0.5, -0.9, 0.1]])
    _, report = layer(drives, Spiking(20))
    assert report.silent == 2 / 6  # 20 steps of 0.04 reach the threshold, of 0.01 they do not
    assert layer(0 * drives, Spiking(20))[1].silent == 0


def test_opposite_errors_have_opposite_answers() -> None:
    for leak in (1.0, 0.8):
        there, back = (layer(s * DRIVES.view(4, 6), Spiking(37, leaky=True), leak)[0] for s in (1, -1))
        assert torch.equal(there, -back) and there.any()


@pytest.mark.parametrize("leak", [0.5, 0.8])
def test_a_leaky_couple_has_a_dead_zone_and_a_weighted_mean(leak: float) -> None:
    mean, report = layer(DRIVES.view(2, 12), Spiking(200, leaky=True), leak)
    dead = DRIVES.view(2, 12).abs() < 0.5 * (1 - leak)
    assert torch.equal(mean == 0, dead) and report.silent == dead.double().mean() > 0
    inside = DRIVES.view(2, 12).abs() <= 1
    bound = 0.5 / weight(leak, 200)
    error = (mean - DRIVES.view(2, 12)).abs()[inside]
    assert 0.5 * bound < error.max() <= bound * (1 + 1e-12)
    plain, report = layer(DRIVES.view(2, 12), Spiking(200), leak)
    assert (plain - DRIVES.view(2, 12)).abs()[inside].max() <= 0.5 / 200 + 1e-12


def test_every_couple_has_the_leak_of_its_neuron() -> None:
    """One number for all, or one for each channel; `[batch, channel, pixel]`."""
    leaks, drives = torch.tensor([0.5, 0.8, 0.9]), torch.linspace(-1, 1, 24).view(2, 3, 4)
    mean, _ = layer(drives, Spiking(25, leaky=True), leaks.view(3, 1))
    for channel, leak in enumerate(leaks.tolist()):
        alone, _ = layer(drives, Spiking(25, leaky=True), leak)
        torch.testing.assert_close(mean[:, channel], alone[:, channel], rtol=1e-12, atol=1e-12)
    assert (mean - layer(drives, Spiking(25, leaky=True), 0.9)[0]).abs().max() > 0.01


def chained(depth: int, steps: int, feedback: bool) -> list[Tensor]:
    """The means of a chain of single couples, taught at the top by one reset_amount at every step."""
    leaves = [torch.zeros(1, 1, requires_grad=True) for _ in range(depth)]
    end = torch.zeros(1, 1, requires_grad=True)
    roots = [torch.zeros(1, 1, requires_grad=True) for _ in range(depth)]
    below = [-end if feedback else 0 * end, *leaves]
    cells = [Cell(str(i), root + low, leaf) for i, (root, low, leaf) in enumerate(zip(roots, below, leaves))]
    total, _ = Spiking(steps).loss(leaves[-1].sum(), Adjoint(cells, [Edge("back", end, leaves[-1])], False))
    return list(torch.autograd.grad(total, roots))


def test_errors_pass_all_layers_in_one_step_and_feedback_in_the_next() -> None:
    """The feedback of a reset amount cancels the reset amount that is taught in the next step, but not in the same."""
    for depth in (1, 3):
        assert [mean.item() for mean in chained(depth, 4, False)] == [1] * depth
        for steps, expected in ((1, 1.0), (2, 0.5), (3, 2 / 3), (4, 0.5), (100, 0.5)):
            assert [mean.item() for mean in chained(depth, steps, True)] == [pytest.approx(expected)] * depth


def test_what_is_no_second_phase_is_refused() -> None:
    for options in ({"steps": 0}, {"threshold": 0.0}, {"loss_scale": -1.0}, {"saturation": 1.5}, {"saturation": -0.1}):
        with pytest.raises(ConfigError, match=rf"Spiking\({next(iter(options))}=.* Give a "):
            Spiking(**options)  # type: ignore[arg-type]
    shown = "Spiking(steps=7, threshold=0.5, loss_scale=1.0, leaky=True, saturation=0.01)"
    assert repr(Spiking(7, leaky=True)) == shown
