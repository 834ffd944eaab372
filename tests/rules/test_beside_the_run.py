"""Graphs beside that of a run: of what computes its input, and of what a criterion reads."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import IncompatibleRule
from spikewright.losses import OnRate, PerStep
from spikewright.rules import BPTT, DSR, HLOP, OTTT, SLTT, Rule
from tests.rules.support import CE, assert_identical, collected

Y = torch.tensor([0, 1, 2])


class Kept(nn.Module):
    """Leaves how often its neurons fire on itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.n, self.out = nn.Linear(6, 8), sw.LIF(threshold=0.4), nn.Linear(8, 3)
        self.firing = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.n(self.a(x))
        self.firing = spikes.mean()
        return self.out(spikes)


def x() -> Tensor:
    return 1.5 * torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1))


def learned(rule: Rule, module: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    list(rule.updates(sw.Network(module), x(), Y, PerStep(criterion)))
    return collected(module)


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=2), BPTT(checkpoint=True), HLOP(BPTT())], ids=repr)
def test_a_loss_that_reads_an_activation_is_refused(rule: Rule) -> None:
    module = Kept()
    with pytest.raises(IncompatibleRule, match="something that the network computed beside its output"):
        learned(rule, module, lambda output, y: F.cross_entropy(output, y) + module.firing)


def test_step_by_step_it_is_a_part_of_the_loss() -> None:
    module = Kept()
    with_it = learned(SLTT(chunk=1), module, lambda output, y: F.cross_entropy(output, y) + module.firing)
    without = {name: grad.clone() for name, grad in learned(SLTT(chunk=1), module, F.cross_entropy).items()}
    assert torch.equal(with_it["out.weight"], without["out.weight"])
    assert not torch.allclose(with_it["a.weight"], without["a.weight"], rtol=1e-2)


def test_weights_of_the_network_may_be_read() -> None:
    module, grads = Kept(), []
    penalty = sum(p.square().sum() for p in module.parameters())
    for extra in (lambda: 0.0, lambda: sum(p.square().sum() for p in module.parameters()), lambda: penalty):
        grads.append(learned(BPTT(), module, lambda output, y: F.cross_entropy(output, y) + extra()))  # noqa: B023
        grads[-1] = {name: grad.clone() for name, grad in grads[-1].items()}
    plain, during, before = grads
    assert_identical(during, before)
    for name, p in module.named_parameters():
        torch.testing.assert_close(during[name], plain[name] + 2 * p.detach())


RULES: list[Callable[[], Rule]] = [
    BPTT,
    partial(BPTT, chunk=2),
    partial(BPTT, checkpoint=True),
    partial(SLTT, chunk=1),
    partial(SLTT, chunk=3),
    OTTT,
    partial(OTTT, online=True),
]


@pytest.mark.parametrize("make", RULES, ids=lambda make: repr(make()))
def test_what_computes_the_input_learns_too(make: Callable[[], Rule]) -> None:
    module, encoder = Kept(), nn.Linear(6, 6)
    leaf = encoder(x()).detach().requires_grad_()
    list(make().updates(sw.Network(module), leaf, Y, CE))
    assert leaf.grad is not None
    expected = torch.autograd.grad(encoder(x()), list(encoder.parameters()), leaf.grad)
    list(make().updates(sw.Network(module), encoder(x()), Y, CE))
    for p, grad in zip(encoder.parameters(), expected):
        assert p.grad is not None and grad.any()
        torch.testing.assert_close(p.grad, grad)


def test_rules_of_rates_say_that_they_do_not() -> None:
    with pytest.raises(IncompatibleRule, match="has no gradient for its input"):
        list(DSR().updates(sw.Network(Kept()), nn.Linear(6, 6)(x()), Y, OnRate(F.cross_entropy)))


def test_weights_may_be_handed_in() -> None:
    net = sw.Network(Kept())
    weights = {name: (0.9 * p.detach()).requires_grad_() for name, p in net.named_parameters()}
    output = torch.func.functional_call(net, {name: 1 * w for name, w in weights.items()}, (x(),))
    grads = torch.autograd.grad(output.sum(), list(weights.values()))
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(weights[name])
    expected, _ = net.run(x())
    torch.testing.assert_close(output, expected)
    for found, grad in zip(grads, torch.autograd.grad(expected.sum(), list(net.parameters()))):
        torch.testing.assert_close(found, grad)
