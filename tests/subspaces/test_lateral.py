"""Bursts of signed spikes in the place of linear lateral neurons."""

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.rules.continual.subspaces import Lateral
from tests.subspaces.support import basis, drawn, holding

SCALE = 3.0


@pytest.mark.parametrize("steps", [1, 2, 7, 40, 1000])
def test_a_burst_is_off_by_half_a_spike_at_most(steps: int) -> None:
    y = torch.linspace(-SCALE, SCALE, 3001)
    error = (Lateral(steps, SCALE)(y) - y).abs().max().item()
    half = SCALE / (2 * steps)
    assert error <= half + 1e-12
    assert error > 0.4 * half  # and the bound is met nearly, with these y


def test_a_burst_counts_spikes_of_either_sign() -> None:
    counts = Lateral(4, 2.0)(torch.tensor([-9.0, -2.0, -0.6, -0.2, 0.0, 0.2, 0.3, 0.8, 1.9, 2.0, 9.0])) / 0.5
    assert counts.tolist() == [-4, -4, -1, 0, 0, 0, 1, 2, 4, 4, 4]


def test_long_bursts_are_linear() -> None:
    old, x = basis(3, 8), drawn(20, 8)
    exact = holding(old, old[:0]).project(x)
    errors = []
    for steps in (10, 1000, 100_000):
        found = holding(old, old[:0], lateral=Lateral(steps, 20.0)).project(x)
        errors.append((found - exact).norm(dim=1).max().item())
        assert errors[-1] <= 3**0.5 * 20.0 / (2 * steps) + 1e-12
    assert errors[0] > 0.1 and errors[2] < 1e-3


def test_projection_takes_the_burst() -> None:
    old, x = basis(2, 6), drawn(1, 6)
    y = torch.tensor([round(max(-1.0, min(1.0, (row * x[0]).sum().item())) * 2) / 2 for row in old])
    found = holding(old, old[:0], lateral=Lateral(2, 1.0)).project(x)
    torch.testing.assert_close(found[0], x[0] - y[0] * old[0] - y[1] * old[1], rtol=0, atol=1e-14)
    assert y.any()


def test_no_steps_is_the_identity() -> None:
    y = drawn(5, 5)
    assert Lateral().linear and Lateral()(y) is y and not Lateral(3).linear


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -2}, {"scale": 0.0}, {"scale": -1.0}], ids=str)
def test_refuses_arguments_out_of_range(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        Lateral(**wrong)
