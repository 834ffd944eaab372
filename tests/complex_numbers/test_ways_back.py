"""What carries errors back through complex layers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import SLTT
from spikewright.spatial import FA, SignSymmetric
from tests.complex_numbers.support import CE, CLASSES, INPUTS, WIDTH, C, Made, data, drawn, read, turned
from tests.rules.support import gradients


def network(last: nn.Module, part: str) -> nn.Module:
    return drawn(nn.Sequential(nn.Linear(INPUTS, WIDTH), LIF(), turned(), last, read(part)))


@pytest.mark.parametrize("part", ["real", "imag"])
@pytest.mark.parametrize("way", [SignSymmetric, FA])
def test_errors_go_back_by_complex_weights(way: Any, part: str) -> None:
    (x, y), rule = data(), SLTT(spatial=way())
    layer = nn.Linear(WIDTH, CLASSES, dtype=C)
    module = network(layer, part)
    found = gradients(rule, module, x[:1], y, CE)["0.weight"]
    back = rule.spatial.back(Network(module).wiring(x).synapses["3"], layer.weight)
    assert back is not None

    def beside(z: Tensor) -> Tensor:
        """The values of the layer, with the gradient that the other weights give."""
        other = F.linear(z, back)
        return layer(z).detach() + other - other.detach()

    expected = gradients(SLTT(), network(Made(beside), part), x[:1], y, CE)["0.weight"]
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 1e-6


def test_signs_are_directions_of_one_magnitude() -> None:
    weight = torch.tensor([[3 + 4j, -2j, 0, 5]])
    back = SignSymmetric().back(None, weight)  # type: ignore[arg-type]
    torch.testing.assert_close(back, torch.tensor([[0.6 + 0.8j, -1j, 0, 1]]) / 2)


def test_weights_drawn_once_are_part_of_the_state_and_as_large_as_real_ones() -> None:
    (x, y), layer = data(), nn.Linear(WIDTH, 400, dtype=C)
    module = nn.Sequential(network(layer, "imag"), nn.Linear(400, CLASSES))
    rule = SLTT(spatial=FA(seed=5))
    gradients(rule, module, x, y, CE)
    back = rule.spatial.back(Network(module).wiring(x).synapses["0.3"], layer.weight)
    assert back is not None
    for part in (back.real, back.imag):
        assert part.abs().max() <= 1 / math.sqrt(2 * WIDTH)
        assert part.std() == pytest.approx(1 / math.sqrt(6 * WIDTH), rel=0.05)
    assert abs((back.real * back.imag).mean()) < 0.1 * back.real.var()
    other = SLTT(spatial=FA(seed=6))
    other.load_state_dict(rule.state_dict())
    again = other.spatial.back(Network(module).wiring(x).synapses["0.3"], layer.weight)
    assert again is not None and torch.equal(again, back)
