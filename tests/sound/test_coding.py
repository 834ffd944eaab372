"""Codings against slow programs of their equations, and what they keep of the numbers."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.sound import Analog, DeltaCode, LatencyCode, LevelCrossingCode, LogCompression, Normalisation

rows = st.lists(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3), min_size=1, max_size=12)
shares = st.lists(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2), min_size=1, max_size=6)


@given(rows, st.sampled_from([0.25, 0.7, 3.0]))
def test_delta_is_within_one_threshold(x: list[list[float]], threshold: float) -> None:
    code, given_x = DeltaCode(threshold), torch.tensor(x)
    spikes = code(given_x)
    assert spikes.shape == (len(x), 2, 3) and not (spikes[:, 0] * spikes[:, 1]).any()
    assert float((code.decode(spikes) - given_x).abs().max()) < threshold + 1e-5
    exact = spikes.long().unbind(1)
    told = (exact[0] - exact[1]).cumsum(0)
    for row, number in zip(x, told.tolist()):
        for value, n in zip(row, number):
            assert abs(Fraction(value) - n * Fraction(threshold)) < Fraction(threshold) * (1 + Fraction(1, 10**12))


def test_delta_sends_only_what_changed() -> None:
    code = DeltaCode(0.5)
    spikes = code(torch.tensor([[0.49], [0.51], [0.1], [0.0], [-0.5], [2.4]]))
    up, down = spikes.long().unbind(1)
    assert up.flatten().tolist() == [0, 1, 0, 0, 0, 5]
    assert down.flatten().tolist() == [0, 0, 0, 1, 1, 0]


def test_delta_with_one_spike_a_step_falls_behind_and_catches_up() -> None:
    code = DeltaCode(1.0, max_spikes=1)
    spikes = code(torch.tensor([3.0, 3.0, 3.0, 3.0]).view(4, 1))
    assert code.decode(spikes).flatten().tolist() == [1, 2, 3, 3] and int(spikes.max()) == 1
    with pytest.raises(InputError, match="would send 300 spikes in a step"):
        DeltaCode(0.01)(torch.full((1, 1), 3.001))


@given(rows)
def test_levels_are_known_exactly(x: list[list[float]]) -> None:
    levels = (-5.0, 0.0, 0.5, 7.25)
    code = LevelCrossingCode(levels)
    spikes = code(torch.tensor(x))
    assert code.decode(spikes).tolist() == [[sum(value >= level for level in levels) for value in row] for row in x]
    for t in range(len(x)):
        for i, level in enumerate(levels):
            for band in range(3):
                before = x[t - 1][band] if t else float("-inf")
                assert int(spikes[t, 0, i, band]) == (before < level <= x[t][band])
                assert int(spikes[t, 1, i, band]) == (x[t][band] < level <= before)


@given(shares, st.sampled_from([1, 4, 7]))
def test_latency_is_within_half_a_step(x: list[list[float]], steps: int) -> None:
    code = LatencyCode(steps)
    spikes = code(torch.tensor(x))
    assert spikes.shape == (len(x) * steps, 2) and int(spikes.unflatten(0, (-1, steps)).sum(1).max()) <= 1
    assert float((code.decode(spikes) - torch.tensor(x)).abs().max()) <= 0.5 / steps + 1e-6
    for t, row in enumerate(x):
        for band, value in enumerate(row):
            slot = round((1 - value) * steps)
            assert [int(s) for s in spikes[t * steps : (t + 1) * steps, band]] == [k == slot for k in range(steps)]


def test_analog_is_the_numbers() -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    assert torch.equal(Analog()(x), x.float()) and torch.equal(Analog().decode(x), x)


def test_codings_refuse_what_has_no_spikes() -> None:
    for code in Analog(), DeltaCode(1.0), LevelCrossingCode((0.0,)), LatencyCode(3):
        with pytest.raises(InputError, match="a NaN or an infinity"):
            code(torch.tensor([[float("nan")]]))
        with pytest.raises(ShapeError, match="floating-point numbers"):
            code(torch.ones(2, 2, dtype=torch.int64))
        with pytest.raises(ShapeError, match="at least one frame"):
            code(torch.ones(0, 2))
    with pytest.raises(InputError, match=r"numbers from -0.5 to 1.5"):
        LatencyCode(3)(torch.tensor([[-0.5, 1.5]]))


WRONG: dict[str, Any] = {
    "no threshold": lambda: DeltaCode(0.0),
    "many spikes": lambda: DeltaCode(1.0, max_spikes=256),
    "no level": lambda: LevelCrossingCode(()),
    "falling levels": lambda: LevelCrossingCode((1.0, 0.0)),
    "one level twice": lambda: LevelCrossingCode((1.0, 1.0)),
    "infinite level": lambda: LevelCrossingCode((float("inf"),)),
    "no steps": lambda: LatencyCode(0),
    "no floor": lambda: LogCompression(0.0),
    "unknown range": lambda: Normalisation("minmax"),  # type: ignore[arg-type]
    "of the test part": lambda: Normalisation(over="test"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError):
        WRONG[name]()


@pytest.mark.parametrize("by_band", [False, True])
def test_normalisation(by_band: bool) -> None:
    parts = [torch.randn(9, 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]) + 3, torch.rand(4, 3).double()]
    axes = 0 if by_band else (0, 1)
    together = torch.cat(parts).numpy()
    mean, deviation = together.mean(axes), together.std(axes)
    low, high = together.min(axes), together.max(axes)
    other = torch.randn(5, 3, dtype=torch.float64) * 9
    scaled = Normalisation(over="training", by_band=by_band).fit(parts)(other)
    torch.testing.assert_close(scaled, torch.from_numpy((other.numpy() - mean) / deviation))
    unit = Normalisation("unit", over="training", by_band=by_band).fit(parts)(other)
    torch.testing.assert_close(unit, torch.from_numpy(((other.numpy() - low) / (high - low)).clip(0, 1)))
    own = Normalisation(by_band=by_band).fit(parts)(other).numpy()
    assert abs(own.mean(axes)).max() < 1e-12 and abs(own.std(axes) - 1).max() < 1e-12
    loud = Normalisation(by_band=by_band).fit(parts)(other + 4)
    torch.testing.assert_close(loud, torch.from_numpy(own))


def test_constant_features_stay_finite() -> None:
    for to in ("standard", "unit"):
        assert not Normalisation(to).fit([torch.ones(1, 1)])(torch.full((3, 2), 7.0)).any()
    with pytest.raises(InputError, match="got no recording"):
        Normalisation(over="training").fit([])
    with pytest.raises(InputError, match="negative or NaN"):
        LogCompression()(torch.tensor([-1.0]))
