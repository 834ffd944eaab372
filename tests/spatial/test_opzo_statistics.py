"""OPZO on a linear map o = J (h + alpha z) + b: each estimate of J has the mean and the variance it should have."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.spatial import OPZO
from tests.spatial.support import drawn, learned, on_paper

DISTRIBUTIONS = ("gaussian", "rademacher", "sphere")
NEURONS, COMPONENTS, BATCH, STEPS, ALPHA = 6, 4, 4, 4000, 0.2
J = torch.randn(COMPONENTS, NEURONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
B = torch.tensor([0.5, -1.0, 0.0, 0.3], dtype=torch.float64)


def activity() -> Tensor:
    """Of pairs of steps, `[time, batch, neuron]`, with mean 0 and variance 1."""
    return torch.randn(STEPS // 2, BATCH, NEURONS).repeat_interleave(2, 0)


def estimates(antithetic: bool, others: Tensor | float = 0.0, **options: Any) -> Tensor:
    """One a step, `[time, neuron, component]`, each from a batch; of pairs of steps where they share their noise."""
    way = on_paper(OPZO(0.0, ALPHA, antithetic=antithetic, **options), COMPONENTS, h=NEURONS)
    z = drawn(way, STEPS, BATCH, NEURONS)
    found = learned(way, (activity() + ALPHA * z) @ J.T + B + others, h=z)["h"]
    return found.unflatten(0, (-1, 2)).mean(1) if antithetic else found


def variance(distribution: str, antithetic: bool) -> Tensor:
    """Of one sample's estimate, `[neuron, component]`: that of the noise, and that of the output as it is anyway."""
    own, norm = J.T.square(), J.square().sum(1)
    spread = {
        "gaussian": norm + own,
        "rademacher": norm - own,
        "sphere": (norm + 2 * own) * NEURONS / (NEURONS + 2) - own,
    }[distribution]
    return spread if antithetic else spread + (norm + B.square()) / ALPHA**2


def off(found: Tensor, expected: Tensor, deviation: Tensor) -> float:
    """How far off a mean is, in squares of what so many estimates with this deviation are off; 1 on average."""
    return float(((found.mean(0) - expected) / (deviation / len(found) ** 0.5)).square().mean())


def assert_has_mean(found: Tensor, expected: Tensor, deviation: Tensor) -> None:
    """As far off as so many estimates with this deviation are, not more and not less: 24 entries, on average."""
    assert 0.25 < off(found, expected, deviation) < 2.2


@pytest.mark.parametrize("antithetic", [False, True])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.long
def test_the_mean_is_the_transposed_jacobian_and_the_variance_as_computed(distribution: str, antithetic: bool) -> None:
    expected = variance(distribution, antithetic) / BATCH
    drawn = [estimates(antithetic, distribution=distribution, seed=seed) for seed in range(3)]
    # The entries of one estimate share their noise, so that one seed alone may be far off.
    assert 0.4 < sum(off(found, J.T, expected.sqrt()) for found in drawn) / 3 < 1.7
    ratio = torch.stack([found.var(0) for found in drawn]).mean(0) / expected
    assert float(ratio.mean()) == pytest.approx(1, abs=0.02)
    assert float((ratio - 1).abs().max()) < 0.1


def test_layers_that_are_perturbed_too_add_variance_and_no_bias() -> None:
    other = torch.randn(COMPONENTS, 8)
    way = OPZO(0.0, ALPHA, antithetic=True)
    apart = drawn(way, STEPS, BATCH, 8, site="other")
    found = estimates(True, others=ALPHA * apart @ other.T)
    expected = (variance("gaussian", True) + other.square().sum(1)) / BATCH
    assert_has_mean(found, J.T, expected.sqrt())
    assert float((found.var(0) / expected).mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.long
def test_both_layers_of_a_chain_learn_their_jacobian_in_one_pass() -> None:
    first = torch.randn(5, NEURONS)  # from h to the 5 neurons of a layer behind it
    last = torch.randn(COMPONENTS, 5)
    way = on_paper(OPZO(0.0, ALPHA), COMPONENTS, h=NEURONS, behind=5)
    z, z2 = drawn(way, STEPS, BATCH, NEURONS), drawn(way, STEPS, BATCH, 5, site="behind")
    found = learned(way, ((activity() + ALPHA * z) @ first.T + ALPHA * z2) @ last.T, h=z, behind=z2)
    for site, jacobian in {"h": last @ first, "behind": last}.items():
        pairs = found[site].unflatten(0, (-1, 2)).mean(1)
        assert_has_mean(pairs, jacobian.T, pairs.std(0))


def smooth(alpha: float, antithetic: bool) -> Tensor:
    """Estimates of the derivative of o = J tanh(h + alpha z) + b at one point h = 0.3, pair by pair."""
    way = on_paper(OPZO(0.0, alpha, antithetic=antithetic), COMPONENTS, h=NEURONS)
    z = drawn(way, STEPS, BATCH, NEURONS)
    output = torch.tanh(torch.full_like(z, 0.3) + alpha * z) @ J.T + B
    return learned(way, output, h=z)["h"].unflatten(0, (-1, 2)).mean(1)


@pytest.mark.long
def test_pairs_of_a_smooth_map_tend_to_its_derivative_and_single_points_blow_up() -> None:
    slope = 1 - torch.tanh(torch.tensor(0.3)) ** 2
    spread = (variance("gaussian", True) / BATCH).sqrt() * slope
    small = smooth(1e-4, True)
    assert_has_mean(small, slope * J.T, spread)
    assert float((small.var(0) / spread.square()).mean()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(smooth(1e-5, True), small, rtol=1e-4, atol=1e-4)
    blown = smooth(1e-4, False).var(0).mean() / smooth(1e-2, False).var(0).mean()
    assert float(blown) == pytest.approx(1e4, rel=0.02)
