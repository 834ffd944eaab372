"""What the matrices of OPZO tend to: the smoothed Jacobian, or that and what an opposite step leaves in membranes.

Two layers of neurons behind each other, simulated here for very many samples of one input; the Jacobian of the output
by the first layer is known in closed form, given the membranes, since noise makes firing a smooth function.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from spikewright.spatial import OPZO
from spikewright.spatial._noise import Position
from tests.oracles.machine import Params
from tests.spatial.support import on_paper

SAMPLES, STEPS, FIRST, SECOND, OUTPUTS, ALPHA = 60_000, 8, 3, 4, 2, 0.6


@dataclass
class Network:
    """Weights of the layers behind the first neurons, and the current of these, which is the same at every step."""

    current: Tensor
    second: Tensor
    bias: Tensor
    out: Tensor


def network() -> Network:
    source = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    return Network(
        torch.tensor([0.8, 0.5, 0.65]), 0.5 * draw(SECOND, FIRST), torch.full((SECOND,), 0.55), draw(OUTPUTS, SECOND)
    )


def measured(leak: float, antithetic: bool, position: Position, steps: int = STEPS) -> tuple[Params, Params]:
    """What noise times output is on average at every step, and the smoothed Jacobian there, by layer `[time, ...]`.

    That of the first layer is by what it sends, and holds for noise behind neurons only.
    """
    net, options = network(), {"position": position, "antithetic": antithetic}
    way = on_paper(OPZO(0.0, ALPHA, **options), OUTPUTS, first=FIRST, second=SECOND)  # type: ignore[arg-type]
    noise, post = way.noise, position == "post"
    assert noise is not None
    like = {"first": torch.empty(SAMPLES, FIRST), "second": torch.empty(SAMPLES, SECOND)}
    v1, v2 = torch.zeros(SAMPLES, FIRST), torch.zeros(SAMPLES, SECOND)
    found: dict[str, list[Tensor]] = {"first": [], "second": []}
    expected: dict[str, list[Tensor]] = {"first": [], "second": []}
    for t in range(steps):
        z = {site: noise.draw(entry, site, 1, t) for site, entry in like.items()}
        u1 = leak * v1 + net.current + (0 if post else z["first"])
        s1 = (u1 >= 1).to(u1)
        v1 = u1 - s1
        sent = s1 + (z["first"] if post else 0)
        u2 = leak * v2 + sent @ net.second.T + net.bias + (0 if post else z["second"])
        s2 = (u2 >= 1).to(u2)
        # How likely neurons fire, and how that changes with what the first layer sends, or their own current.
        size = ALPHA * (net.second.norm(dim=1) if post else torch.ones(SECOND))
        mean = leak * v2 + (s1 if post else sent) @ net.second.T + net.bias
        slope = torch.exp(-(((mean - 1) / size) ** 2) / 2) / (size * math.sqrt(2 * math.pi))
        v2 = u2 - s2
        output = (s2 + (z["second"] if post else 0)) @ net.out.T
        for site in found:
            found[site].append(z[site].T @ output / SAMPLES / ALPHA**2)
        by_current = (net.out * slope.mean(0)).T
        expected["second"].append(net.out.T if post else by_current)
        expected["first"].append(((net.out * slope.mean(0)) @ net.second).T)
    return {k: torch.stack(v) for k, v in found.items()}, {k: torch.stack(v) for k, v in expected.items()}


def off(found: Tensor, expected: Tensor) -> float:
    """Distance of the mean over steps, relative to the size of what is expected."""
    return float((found.mean(0) - expected.mean(0)).norm() / expected.mean(0).norm())


NOISE = 0.03
"""What is left of the noise in averages over so many samples."""


@pytest.mark.parametrize("leak", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("antithetic", [False, True])
def test_the_last_layer_has_the_jacobian(leak: float, antithetic: bool) -> None:
    found, expected = measured(leak, antithetic, "post")
    assert off(found["second"], expected["second"]) < NOISE


@pytest.mark.parametrize("leak, antithetic, steps", [(0.0, True, 8), (0.5, False, 8), (0.9, False, 8), (0.9, True, 1)])
def test_layers_below_have_it_without_pairs_without_leak_or_in_one_step(
    leak: float, antithetic: bool, steps: int
) -> None:
    found, expected = measured(leak, antithetic, "post", steps)
    assert off(found["first"], expected["first"]) < NOISE


@pytest.mark.parametrize("leak, least", [(0.5, 0.1), (0.9, 0.2)])
def test_layers_below_are_off_with_pairs_and_leak(leak: float, least: float) -> None:
    found, expected = measured(leak, True, "post")
    first, second = (off(found["first"][k::2], expected["first"][k::2]) for k in (0, 1))
    assert first < NOISE < least < second  # the second step of a pair meets what the first has left in membranes
    assert least / 2 < off(found["first"], expected["first"])


@pytest.mark.parametrize("leak, antithetic", [(0.0, True), (0.5, False), (0.9, False)])
def test_noise_in_front_of_the_last_neurons_has_it_without_pairs_or_leak(leak: float, antithetic: bool) -> None:
    found, expected = measured(leak, antithetic, "pre")
    assert off(found["second"], expected["second"]) < NOISE


@pytest.mark.parametrize("leak, least", [(0.5, 0.15), (0.9, 0.3)])
def test_noise_in_front_stays_in_the_membranes_of_the_neurons_themselves(leak: float, least: float) -> None:
    found, expected = measured(leak, True, "pre")
    first, second = (off(found["second"][k::2], expected["second"][k::2]) for k in (0, 1))
    assert first < NOISE < least < second
