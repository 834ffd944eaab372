"""What metrics become in an open world: exact means against enumeration, draws, and figures that were published."""

import math
import random
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError, InputError
from spikewright.graph.open_world import KINDS, weights
from spikewright.graph.simulation import OpenWorld, binomial, variance_bound
from tests.oracles import ranking as oracle

HALF_MISSING = OpenWorld(answers=40, density=0.5, exactly=True)
"""N = M = 20."""
CORRELATED = OpenWorld(answers=6, density=0.6, correlation=-0.2)
CURVES = ("mrr", "log", "sqrt", "P1_4")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def error_of_mean(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [CORRELATED, OpenWorld(5, 0.3), OpenWorld(1, 0.5), OpenWorld(4, 0.7, 0.3)], ids=str)
def test_the_exact_mean_is_that_of_every_outcome(world: OpenWorld, kind: str) -> None:
    for strength in (0.2, 0.6, 1.0):
        slow = oracle.enumerated(
            world.answers,
            world.density,
            *world.strengths(strength),
            weight=lambda k: float(weights(torch.tensor([k]), kind)),
        )
        assert world.expected(kind, strength) == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize("world", [CORRELATED, OpenWorld(10, 0.8, 0.2), OpenWorld(10, 0.4, exactly=True)], ids=str)
def test_draws_have_the_exact_mean(world: OpenWorld) -> None:
    drawn = world.draw(0.6, 40_000, seeded())
    for kind in KINDS:
        values = drawn.metric(kind)
        assert float(values.mean()) == pytest.approx(world.expected(kind, 0.6), abs=4 * error_of_mean(values)), kind


def test_draws_are_spread_as_those_of_the_explicit_program() -> None:
    source = random.Random(0)
    strengths = CORRELATED.strengths(0.6)
    slow = [oracle.one_query(6, 0.6, *strengths, weight=lambda k: 1 / k, source=source) for _ in range(20_000)]
    theirs = torch.tensor([value for value in slow if value is not None], dtype=torch.float64)
    ours = CORRELATED.draw(0.6, 20_000, seeded()).metric("mrr")
    assert len(theirs) == pytest.approx(len(ours), abs=60)
    for part in (0.1, 0.25, 0.4, 0.6, 0.9):
        assert float((ours <= part).double().mean() - (theirs <= part).double().mean()) == pytest.approx(0, abs=0.02)
    assert float(ours.std() / theirs.std()) == pytest.approx(1, abs=0.02)


def test_published_simulation() -> None:
    """Oracle 1: means of 500 runs of the authors, 4 standard errors of theirs off at most (A = 43)."""
    stored = {
        (0.8, 0.0): {0.3: (0.1773, 35), 0.5: (0.2325, 46), 0.7: (0.2739, 48), 0.9: (0.2977, 51), 1.0: (0.3164, 54)},
        (0.5, 0.0): {0.3: (0.1104, 29), 0.5: (0.1354, 31), 0.7: (0.1496, 28), 0.9: (0.1637, 30), 1.0: (0.1692, 29)},
    }
    for (density, correlation), curve in stored.items():
        for strength, (mean, error) in curve.items():
            expected = OpenWorld(43, density, correlation).expected("mrr", strength)
            assert expected == pytest.approx(mean, abs=4e-4 * error), (density, strength)


@pytest.mark.parametrize(
    "correlation, curve",
    [
        (0.0, {0.3: 0.1125, 0.5: 0.1357, 0.7: 0.1510, 0.9: 0.1625, 1.0: 0.1673}),
        (-0.3, {0.5: 0.2220, 0.7: 0.2101, 0.9: 0.1927}),
        (0.2, {0.5: 0.0960, 0.7: 0.1204, 0.9: 0.1447}),
    ],
)
def test_exact_figures(correlation: float, curve: dict[float, float]) -> None:
    world = OpenWorld(43, 0.5, correlation)
    assert {l: world.expected("mrr", l) for l in curve} == pytest.approx(curve, abs=5.1e-5)  # noqa: E741


def test_the_approximation_and_where_it_is_poor() -> None:
    for density in (0.8, 0.65, 0.5, 0.35):
        world = OpenWorld(43, density)
        for strength in (0.3, 0.5, 0.7, 0.9, 1.0):
            assert world.approximate_mrr(strength) == pytest.approx(world.expected("mrr", strength), abs=0.0015)
    assert OpenWorld(43, 0.5).approximate_mrr(0.5) == pytest.approx(0.1363, abs=5e-5)
    few = OpenWorld(43, 0.8, -0.3)
    assert (few.approximate_mrr(0.5), few.expected("mrr", 0.5)) == pytest.approx((0.381, 0.398), abs=5e-4)


def test_hits_saturate() -> None:
    """Oracle 2: the closed form of Hits@1, and Hits@k = k / (M + 1) where many missing answers are on top."""
    figures = {"hits_at_1": (0.0476,) * 4, "hits_at_3": (0.1429,) * 4, "hits_at_10": (0.444, 0.476, 0.476, 0.476)}
    for kind, curve in figures.items():
        found = [HALF_MISSING.expected(kind, strength) for strength in (0.5, 0.8, 0.9, 1.0)]
        assert found == pytest.approx(curve, abs=5e-4 if kind == "hits_at_10" else 5e-5)
    for strength in (0.05, 0.3, 1.0):
        closed = (1 - (1 - strength) ** 21) / 21
        assert HALF_MISSING.expected("hits_at_1", strength) == pytest.approx(closed, rel=1e-12)


def test_figures_of_the_other_metrics() -> None:
    """Oracles 3 and 4."""
    figures = {
        "mrr": (0.1406, 0.1630, 0.1686, 0.1736),
        "log": (0.2218, 0.2995, 0.3231, 0.3459),
        "sqrt": (0.2446, 0.3260, 0.3497, 0.3721),
        "P1_4": (0.3432, 0.4993, 0.5479, 0.5952),
    }
    gains = {"mrr": 0.034, "log": 0.079, "sqrt": 0.073, "P1_4": 0.097, "hits_at_10": 0.0}
    for kind, curve in figures.items():
        found = [HALF_MISSING.expected(kind, strength) for strength in (0.5, 0.8, 0.9, 1.0)]
        assert found == pytest.approx(curve, abs=5.1e-5)
    for kind, gain in gains.items():
        assert HALF_MISSING.expected(kind, 0.9) / HALF_MISSING.expected(kind, 0.8) - 1 == pytest.approx(gain, abs=6e-4)


def test_flat_metrics_order_models_better() -> None:
    """Oracle 5: how often the stronger of two models has the lower value."""
    weak, strong = HALF_MISSING.draw(0.8, 20_000, seeded(0)), HALF_MISSING.draw(0.9, 20_000, seeded(1))
    figures = {"mrr": 0.465, "sqrt": 0.393, "log": 0.385, "P1_4": 0.294, "hits_at_1": 0.33}
    for kind, figure in figures.items():
        wrong = float((strong.metric(kind) < weak.metric(kind)).double().mean())
        assert wrong == pytest.approx(figure, abs=0.025), kind


def test_where_the_stronger_model_has_the_lower_mean() -> None:
    """Oracle 6."""
    grid = [0.5 + 0.05 * step for step in range(10)]
    for correlation, rises in ((-0.3, False), (0.0, True), (0.2, True)):
        curve = [OpenWorld(43, 0.5, correlation).expected("mrr", strength) for strength in grid]
        assert all((high > low) == rises for low, high in pairwise(curve)), correlation


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_test_set_is_linear_in_strength(kind: str) -> None:
    """Oracle 7; and the best model has the mean of the harmonic numbers."""
    for world in (OpenWorld(7, 1.0), OpenWorld(7, 1.0, -0.4), OpenWorld(7, 1.0, exactly=True)):
        for strength in (0.0, 0.3, 1.0):
            assert world.expected(kind, strength) == pytest.approx(strength, rel=1e-12)
    harmonic = sum(1 / k for k in range(1, 22)) / 21
    assert HALF_MISSING.expected("mrr", 1.0) == pytest.approx(harmonic, rel=1e-12)


@pytest.mark.parametrize("correlation", [-0.3, 0.0, 0.2])
def test_strengths_and_their_correlation(correlation: float) -> None:
    """Oracle 8."""
    world = OpenWorld(43, 0.65, correlation)
    on_test, on_missing = world.strengths(0.6)
    assert 0.65 * on_test + 0.35 * on_missing == pytest.approx(0.6, rel=1e-14)
    drawn = world.draw(0.6, 5000, seeded())
    both = torch.stack([~drawn.test, drawn.top]).flatten(1).double()
    assert float(torch.corrcoef(both)[0, 1]) == pytest.approx(correlation, abs=4 / math.sqrt(both.shape[1]))
    assert world.strengths(0.0) == (0.0, 0.0) and world.strengths(1.0) == (1.0, 1.0)
    assert OpenWorld(43, 0.8, 0.9).strengths(0.3)[1] == 1.0
    assert OpenWorld(43, 0.2, 0.9).strengths(0.3)[0] == 0.0


def test_what_is_drawn() -> None:
    drawn = HALF_MISSING.draw(0.7, 3000, seeded())
    assert bool((drawn.test.sum(1) == 20).all())
    assert float(drawn.test[:, 0].double().mean()) == pytest.approx(0.5, abs=0.04)
    assert torch.equal(HALF_MISSING.draw(0.7, 5, seeded(3)).ranks, HALF_MISSING.draw(0.7, 5, seeded(3)).ranks)
    few = OpenWorld(2, 0.3).draw(0.5, 4000, seeded())
    assert len(few.metric("mrr")) == pytest.approx(4000 * (1 - 0.7**2), abs=130)  # queries without test answers are out


@pytest.mark.parametrize("kind", [*CURVES, "hits_at_10"])
@pytest.mark.parametrize("world", [HALF_MISSING, OpenWorld(43, 0.5), OpenWorld(12, 0.8, 0.2)], ids=str)
def test_strength_is_read_back(world: OpenWorld, kind: str) -> None:
    for strength in (0.3, 0.55, 0.8):
        found = world.strength_of(kind, world.expected(kind, strength))
        assert found == pytest.approx(strength, rel=1e-6)
    assert world.expected(kind, world.strength_of(kind, 0.0)) == pytest.approx(0, abs=1e-15)
    best = world.expected(kind, 1.0)
    assert world.expected(kind, world.strength_of(kind, best)) == pytest.approx(best, rel=1e-12)


def test_elasticity() -> None:
    assert OpenWorld(7, 1.0).elasticity("mrr", 0.4) == pytest.approx(1, rel=1e-6)
    many = OpenWorld(20_000, 0.5, exactly=True)
    n = 0.8 * 10_000
    assert many.elasticity("mrr", 0.8) == pytest.approx(1 / (math.log(n) + 0.5772), rel=1e-3)
    for kind, p in (("sqrt", 1 / 2), ("P1_4", 1 / 4), ("P1_3", 1 / 3)):
        assert many.elasticity(kind, 0.8) == pytest.approx(1 - p, rel=0.02)
    assert many.elasticity("hits_at_10", 0.8) == pytest.approx(0, abs=1e-6)
    assert many.elasticity("mrr", 1.0) == pytest.approx(1 / (math.log(1e4) + 0.5772), rel=1e-3)


def test_variance_bound() -> None:
    for strength, bound, actual in ((0.5, 0.0019, 0.0046), (0.8, 0.0012, 0.0045), (1.0, 0.0009, 0.0045)):
        found = variance_bound(strength, 20, 20)
        drawn = float(HALF_MISSING.draw(strength, 20_000, seeded()).metric("mrr").var())
        assert found == pytest.approx(bound, abs=5.1e-5)
        assert drawn == pytest.approx(actual, rel=0.1)
        assert found < drawn
    assert variance_bound(1.0, 1, 0) == pytest.approx(3 / (8 - 19 / 32), rel=1e-14)
    assert variance_bound(1.0, 1, 1) > 1 / 16  # rank 1 or 2, each as likely: no bound where so few are missing


def test_binomial() -> None:
    for p in (0.0, 0.3, 1.0):
        exact = [math.comb(9, k) * p**k * (1 - p) ** (9 - k) for k in range(10)]
        assert binomial(9, p).tolist() == pytest.approx(exact, rel=1e-12)
    assert binomial(0, 0.4).tolist() == [1.0]
    assert float(binomial(5000, 0.37).sum()) == pytest.approx(1, rel=1e-9)


def test_refusals() -> None:
    for wrong in ({"answers": 0}, {"density": 0.0}, {"density": 1.1}, {"correlation": -2.0}):
        with pytest.raises(ConfigError, match=r"OpenWorld\((answers|density|correlation)="):
            OpenWorld(**{"answers": 4, "density": 0.5, **wrong})
    for density in (0.3, 1e-12):
        with pytest.raises(ConfigError, match="whole number"):
            OpenWorld(4, density, exactly=True)
    with pytest.raises(InputError, match=r"and 1\.5 was given"):
        HALF_MISSING.expected("mrr", 1.5)
    with pytest.raises(ConfigError, match="stronger models"):
        CORRELATED.strength_of("mrr", 0.2)
    for value in (-0.1, 0.9):
        with pytest.raises(InputError, match=r"the strongest has 0\.17"):
            HALF_MISSING.strength_of("mrr", value)
    for world, strength in ((OpenWorld(4, 1.0), 0.5), (OpenWorld(4, 0.5), 0.0)):
        with pytest.raises(InputError, match="there are none"):
            world.approximate_mrr(strength)
    with pytest.raises(InputError, match="does not exist"):
        HALF_MISSING.elasticity("mrr", 0.0)
