"""How near the errors that reach a layer come to the true ones, on a linear map that does not change."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright.spatial import DFA, OPZO, ZO, Spatial
from spikewright.spatial._noise import Distribution
from tests.spatial.support import chunk, drawn, on_paper

NEURONS, COMPONENTS, BATCH, ALPHA = 40, 5, 16, 0.2
J = torch.randn(COMPONENTS, NEURONS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def cosine(way: Spatial, steps: int) -> Tensor:
    """Of the errors at the last of some steps to the true ones, one a sample."""
    on_paper(way, COMPONENTS, h=NEURONS)
    z = drawn(OPZO(), steps, BATCH, NEURONS)
    output, error = ALPHA * z @ J.T, torch.randn(steps, BATCH, COMPONENTS)
    found = way.signals(chunk(way, output, error, h=z))["h"]
    return F.cosine_similarity(found[-1], error[-1] @ J, dim=1)


@pytest.mark.long
def test_drawn_feedback_points_nowhere() -> None:
    found = torch.stack([cosine(DFA(seed=seed), 2) for seed in range(100)])
    assert float(found.mean().abs()) < 0.03
    assert float(found.square().mean()) == pytest.approx(1 / NEURONS, rel=0.2)


def test_learned_feedback_tends_to_the_true_direction_with_the_number_of_steps() -> None:
    found = [float(cosine(OPZO(momentum=0.9999, alpha=ALPHA), steps).mean()) for steps in (2, 20, 200, 2000)]
    assert found == sorted(found)
    assert found[0] < 0.7 and found[-1] > 0.998, found


@pytest.mark.long
def test_and_with_the_length_of_its_average() -> None:
    found = [float(cosine(OPZO(momentum, ALPHA), 2000).mean()) for momentum in (0.5, 0.9, 0.99, 0.999)]
    assert found == sorted(found)
    assert found[0] < 0.8 and found[-1] > 0.998, found


def squared(z: Tensor, jacobian: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared distance from a target, given noise and how far off the output is without, and its error."""
    error = ALPHA * z @ jacobian.T + off
    return error.square().sum(2) / 2, error


@pytest.mark.parametrize("distribution", get_args(Distribution))
def test_the_zeroth_order_is_the_true_error_on_average(distribution: Distribution) -> None:
    samples, jacobian, off = 40_000, J[:, :6], torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5])
    way = ZO(ALPHA, distribution=distribution)
    z = drawn(way, 2, samples // 2, 6)
    terms, error = squared(z, jacobian, off)
    found = way.signals(chunk(way, error, error, terms, h=z))["h"].flatten(0, 1)
    deviations = (found.mean(0) - off @ jacobian) / (found.std(0) / samples**0.5)
    assert 0.1 < float(deviations.square().mean()) < 2.5, deviations


def test_the_zeroth_order_falls_behind_as_layers_grow() -> None:
    ratios = []
    for neurons in (10, 40, 160):
        jacobian, steps, batch = torch.randn(COMPONENTS, neurons), 1200, 8
        way = on_paper(OPZO(0.99, ALPHA), COMPONENTS, h=neurons)
        z = drawn(way, steps, batch, neurons)
        terms, error = squared(z, jacobian, torch.full((COMPONENTS,), 0.2))
        taught = chunk(way, error, error, terms, h=z)
        variances = [w.signals(taught)["h"][200:].mean(1).var(0).mean() for w in (ZO(ALPHA), way)]
        ratios.append(float(variances[0] / variances[1]))
    assert ratios[0] > 2
    assert ratios[1] > 2 * ratios[0] and ratios[2] > 2 * ratios[1], ratios
