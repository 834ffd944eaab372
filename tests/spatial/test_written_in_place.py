"""Networks that write to what neurons emitted: the same gradients as without."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.rules import OTTT
from spikewright.spatial import BP, DFA, DKP, OPZO, Local, Spatial
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import gradients

WAYS: dict[str, Callable[[], Spatial]] = {
    "DFA": DFA,
    "DKP": lambda: DKP(lr=5.0),
    "OPZO": lambda: OPZO(momentum=0.5),
    "OPZO, pre": lambda: OPZO(momentum=0.5, position="pre"),
}


class Skip(nn.Module):
    """Spikes are added to spikes, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.fc1, self.first, self.fc2, self.second, *_ = NETS["deep"](0).children()
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(self.fc1(x))
        x = self.second(self.fc2(skip))
        if self.in_place:
            x += skip
        else:
            x = x + skip
        return self.out(x)


class Doubled(nn.Module):
    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2) if self.in_place else 2 * x


def doubled(in_place: bool) -> nn.Module:
    first, spikes, *rest = NETS["mlp"](0).children()
    return nn.Sequential(first, spikes, Doubled(in_place), *rest)


def both(build: Callable[[bool], nn.Module], way: Callable[[], Spatial], local: bool) -> list[Params]:
    """Gradients without and with writing in place."""
    found, (x, y) = [], sample("deep", 0)
    for in_place in (False, True):
        torch.manual_seed(7)
        module = build(in_place)
        rule = OTTT(spatial=way(), local=Local() if local else None)
        rule.prepare(Network(module), x)
        found.append(gradients(rule, module, x, y))
    assert all(grad.any() for grad in found[0].values())
    return found


@pytest.mark.parametrize("build", [Skip, doubled])
def test_backpropagation_is_the_same(build: Callable[[bool], nn.Module]) -> None:
    plain, in_place = both(build, BP, local=False)
    assert_agree(in_place, plain)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("build", [Skip, doubled])
def test_feedback_is_the_same(build: Callable[[bool], nn.Module], way: str) -> None:
    plain, in_place = both(build, WAYS[way], local=False)
    assert_agree(in_place, plain)


@pytest.mark.parametrize("build", [Skip, doubled])
def test_local_learning_is_the_same(build: Callable[[bool], nn.Module]) -> None:
    plain, in_place = both(build, BP, local=True)
    assert_agree(in_place, plain)
