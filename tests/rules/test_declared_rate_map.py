"""A rate map that a neuron declares is the one that rules of rates differentiate, wherever their slopes come from."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.neurons import IF, Dynamics
from spikewright.rules import DSR, IDE, RateRule
from spikewright.temporal import SiteState
from tests.nets import sample
from tests.rules.support import gradients


class Graded(IF):
    """Emits its rate at every step: none at no current, and less and less more of it."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return x.clamp(min=0).tanh(), state

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=1.0, rate_map=lambda rate: rate.clamp(min=0).tanh())


class Transferred(IF):
    """Declares its map by another way."""

    def transfer(self, rate: Tensor) -> Tensor:
        return super().transfer(rate) ** 2

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return self.transfer(x), state

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=1.0, rate_map=self.transfer)


def network(neuron: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), neuron, nn.Linear(12, 4)).double()


@pytest.mark.parametrize("rule", [DSR(), IDE(), IDE(mask="output")], ids=repr)
@pytest.mark.parametrize("neuron", [Graded(), Transferred()], ids=lambda n: type(n).__name__)
def test_its_slope_is_used(neuron: IF, rule: RateRule) -> None:
    module, (x, y) = network(neuron), sample("mlp", 0)
    x = x[:1].expand(6, *x.shape[1:])  # so that a rate is what the map makes of the mean current
    found = gradients(rule, module, x, y)

    rate_map = neuron.dynamics.rate_map
    assert rate_map is not None
    names, weights = zip(*module.named_parameters())
    hidden = rate_map(F.linear(x[0], weights[0], weights[1]))
    expected = torch.autograd.grad(F.cross_entropy(F.linear(hidden, weights[2], weights[3]), y), weights)
    for name, gradient in zip(names, expected):
        assert gradient.any()
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("neuron", [Graded(), Transferred()], ids=lambda n: type(n).__name__)
def test_a_formula_for_another_map_is_refused(neuron: IF) -> None:
    with pytest.raises(IncompatibleRule, match=r"'1' \((Graded|Transferred)\) declares another rate map"):
        gradients(DSR(reference=True), network(neuron), *sample("mlp", 0))
