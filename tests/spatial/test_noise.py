"""Noise: the laws it is drawn by, and what a draw depends on and what it does not."""

import pytest
import torch
from torch import Tensor

from spikewright.rules import OTTT
from spikewright.spatial import OPZO, ZO
from spikewright.spatial._noise import Distribution, Noise, Position
from tests.nets import NETS, sample
from tests.rules.support import learn
from tests.spatial.support import watched

DISTRIBUTIONS: tuple[Distribution, ...] = ("gaussian", "rademacher", "sphere")
LIKE = torch.zeros(3, 4, 5, dtype=torch.float64)


def made(distribution: Distribution = "gaussian", antithetic: bool = False, seed: int = 0, alpha: float = 1.0) -> Noise:
    return Noise("ZO", alpha, distribution, "post", antithetic, seed)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_law_has_mean_0_variance_1_and_independent_entries(distribution: Distribution) -> None:
    z = made(distribution).draw(torch.empty(40_000, 2, 3), "site", 1, 0).flatten(1)
    assert z.shape == (40_000, 6)
    covariance = z.T @ z / len(z)
    torch.testing.assert_close(z.mean(0), torch.zeros(6), rtol=0, atol=4 / len(z) ** 0.5)
    torch.testing.assert_close(covariance, torch.eye(6), rtol=0, atol=6 / len(z) ** 0.5)


def test_laws_are_what_they_are_called() -> None:
    gaussian, rademacher, sphere = (
        made(distribution).draw(torch.empty(5000, 2, 3), "site", 1, 0) for distribution in DISTRIBUTIONS
    )
    assert float(gaussian.pow(4).mean()) == pytest.approx(3, rel=0.05)
    assert set(rademacher.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(sphere.flatten(1).square().sum(1), torch.full((5000,), 6.0))
    assert float(sphere.pow(4).mean()) == pytest.approx(3 * 6 / 8, rel=0.05)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("step", [0, 1])
def test_noise_comes_in_its_size(distribution: Distribution, step: int) -> None:
    one, less = (made(distribution, step == 1, alpha=alpha).draw(LIKE, "site", 1, step) for alpha in (1.0, 0.2))
    torch.testing.assert_close(less, 0.2 * one)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_draw_depends_on_its_key_and_on_nothing_else(
    distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(distribution).draw(LIKE, "a.0", 1, 2)
    before = torch.get_rng_state()
    made(distribution).draw(LIKE, "b", 7, 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(made(distribution).draw(LIKE + 1, "a.0", 1, 2), first)
    others = [
        made(distribution).draw(LIKE, "a.1", 1, 2),
        made(distribution).draw(LIKE, "a.0", 2, 2),
        made(distribution).draw(LIKE, "a.0", 2, 1),
        made(distribution).draw(LIKE, "a.0", 1, 3),
        made(distribution, seed=1).draw(LIKE, "a.0", 1, 2),
    ]
    monkeypatch.setattr("spikewright.spatial._noise._rank", lambda: 1)
    others.append(made(distribution).draw(LIKE, "a.0", 1, 2))
    drawn = [first, *others]
    assert not any(torch.equal(a, b) for k, a in enumerate(drawn) for b in drawn[:k])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_second_step_of_a_pair_has_the_noise_of_the_first_with_the_other_sign(distribution: Distribution) -> None:
    noise = made(distribution, antithetic=True)
    z = [noise.draw(LIKE, "site", 1, step) for step in range(5)]
    assert torch.equal(z[1], -z[0]) and torch.equal(z[3], -z[2])
    apart = [made(distribution).draw(LIKE, "site", 1, step) for step in range(2)]
    for one, other in ((z[2], z[1]), (z[4], z[3]), (z[2], z[0]), (z[4], z[0]), (apart[0], apart[1])):
        assert not torch.equal(one, other) and not torch.equal(one, -other)


@pytest.mark.parametrize("dtype, expected", [(torch.bfloat16, torch.float32), (torch.float16, torch.float32)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_noise_has_32_bits_or_more(distribution: Distribution, dtype: torch.dtype, expected: torch.dtype) -> None:
    assert made(distribution).draw(LIKE.to(dtype), "site", 1, 0).dtype == expected
    assert made(distribution).draw(LIKE, "site", 1, 0).dtype == torch.float64


def lessons(way: OPZO | ZO, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> list[dict[str, Tensor]]:
    """The noise of some sequences of `deep`, by site."""
    seen = watched(way, monkeypatch)
    for _ in range(times):
        learn(OTTT(spatial=way, chunk=6), NETS["deep"](0), *sample("deep", 0))
    return [chunk.noise for chunk in seen]


@pytest.mark.parametrize("position", ["post", "pre"])
def test_every_layer_and_every_sequence_has_noise_of_its_own(
    position: Position, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = lessons(OPZO(position=position), monkeypatch, times=2)
    assert first.keys() == {"1", "3", "5"}
    for site, z in first.items():
        assert torch.equal(z[1::2], -z[0::2])
        assert not torch.equal(z, second[site])
    assert not torch.equal(first["1"], first["3"])  # both of 12 neurons
    assert not torch.equal(first["1"][0, 0], first["1"][0, 1])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_learning_leaves_the_random_state_of_torch_alone(distribution: Distribution) -> None:
    module = NETS["deep"](0)
    before = torch.get_rng_state()
    for way in (ZO(distribution=distribution), OPZO(distribution=distribution, init="dfa")):
        learn(OTTT(spatial=way), module, *sample("deep", 0))
    assert torch.equal(torch.get_rng_state(), before)
