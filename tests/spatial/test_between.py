"""What lies between neurons and the next weights, where noise travels beside spikes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.layers import StepDropout
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT
from spikewright.spatial import DFA, OPZO
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import CE, collected, gradients

X, Y = sample("mlp", 0)


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


BETWEEN = {
    "norm": lambda: nn.BatchNorm1d(12),
    "shared mask": lambda: nn.Dropout(0.4),
    "mask per step": lambda: StepDropout(0.4),
    "maximum": lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.MaxPool1d(3, 1, padding=1), nn.Flatten()),
    "branches": lambda: Applied(lambda s: torch.cat([s[:, :5], 2 * s[:, 5:].roll(1, 1)], 1)),
}


def between(name: str) -> nn.Module:
    first, _, second, _, readout = NETS["mlp"](0).children()
    torch.manual_seed(5)
    return nn.Sequential(first, LIF(), BETWEEN[name]().double(), second, LIF(), readout)


@pytest.mark.parametrize("name", BETWEEN)
def test_whatever_lies_between_acts_on_spikes_and_noise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, all_six = (gradients(OTTT(chunk=n, spatial=OPZO(alpha=0.5)), between(name), X, Y) for n in (1, 6))
    assert all(grad.any() for grad in one.values())
    assert_agree(all_six, one)
    quiet = gradients(OTTT(spatial=OPZO(alpha=1e-100, momentum=1.0, init="dfa")), between(name), X, Y)
    assert_agree(quiet, gradients(OTTT(spatial=DFA()), between(name), X, Y))


class Detachable(nn.Module):
    """Passes on what it gets, until it is told to take the graph off."""

    detaches = False

    def forward(self, x: Tensor) -> Tensor:
        return x.detach() if self.detaches else x


def test_noise_that_gets_lost_is_missed_and_in_front_of_neurons_it_cannot_be() -> None:
    first, spikes, *rest = NETS["mlp"](0).children()
    between = Detachable()
    net = Network(nn.Sequential(first, spikes, between, *rest))
    net.wiring(X)
    between.detaches = True
    with pytest.raises(NetworkError, match=r"in front of '3' did not arrive.*detaches.*Use position='pre'"):
        list(OTTT(spatial=OPZO()).updates(net, X, Y, CE))
    list(OTTT(spatial=OPZO(position="pre")).updates(net, X, Y, CE))
    assert all(grad.any() for grad in collected(net.module).values())
