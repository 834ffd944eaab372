"""Networks in which no single trace is right, and how `leak` settles it."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.neurons import LIF, Neuron
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.catalogue import NEURONS, RULES, Cell, Entry
from tests.nets import sample
from tests.oracles.compare import assert_agree
from tests.oracles.draw import draw
from tests.rules.support import collected, gradients, learn, names


class Fork(nn.Module):
    """One synapse onto two populations with time constants of their own."""

    def __init__(self, first: float, second: float) -> None:
        super().__init__()
        self.shared, self.fast, self.slow = nn.Linear(8, 12), LIF(tau=first), LIF(tau=second)
        self.out = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        current = self.shared(x)
        return self.out(self.fast(current) + self.slow(current))


def chain(neuron: Neuron) -> nn.Module:
    module = nn.Sequential(nn.Linear(8, 3), neuron, nn.Linear(3, 4))
    module.load_state_dict(draw({"0": (3, 8), "2": (4, 3)}, 1), strict=False)
    return module


def test_two_leaks_at_one_synapse() -> None:
    message = (
        r"OTTT keeps one trace per input at 'shared', but that layer feeds neurons of different leaks: "
        r"'fast' \(leak 0.5\), 'slow' \(leak 0.8\). Pass OTTT\(leak=...\)"
    )
    with pytest.raises(IncompatibleRule, match=message):
        learn(OTTT(), Fork(2.0, 5.0), *sample("mlp", 0))
    learn(OTTT(), Fork(2.0, 2.0), *sample("mlp", 0))


def test_a_leak_per_channel() -> None:
    with pytest.raises(IncompatibleRule, match=r"at '0', but .* '1' \(leak <3 values>\): a leak per channel needs"):
        learn(OTTT(), chain(LIF(tau=[1.5, 2.0, 5.0])), *sample("mlp", 0))


@pytest.mark.parametrize("build", [lambda: Fork(2.0, 5.0), lambda: chain(LIF(tau=[1.5, 2.0, 5.0]))])
def test_naming_a_leak_settles_it(build: object) -> None:
    torch.manual_seed(1)
    module = build()  # type: ignore[operator]
    learn(OTTT(leak=0.5), module, *sample("mlp", 0))
    assert all(grad.any() for grad in collected(module).values())
    assert_agree(gradients(OTTT(leak=0.0), module, *sample("mlp", 0)), gradients(SLTT(), module, *sample("mlp", 0)))


@pytest.mark.parametrize("rule", [BPTT(), SLTT(), SLTT(k=2), OTTT(leak=0.5)], ids=repr)
def test_rules_that_need_no_leak_of_a_neuron_take_any(rule: Rule) -> None:
    for module in (Fork(2.0, 5.0), chain(LIF(tau=[1.5, 2.0, 5.0]))):
        learn(rule, module, *sample("mlp", 0))
        assert all(grad.any() for grad in collected(module).values())


@pytest.mark.parametrize("entry", RULES, ids=names())
@pytest.mark.parametrize("cell", NEURONS.values(), ids=list(NEURONS))
def test_every_rule_learns_with_every_neuron_or_says_why_not(entry: Entry, cell: Cell) -> None:
    rule, module = entry.make(), chain(cell.make())
    if entry.traces and not cell.traceable:
        with pytest.raises(IncompatibleRule, match="a leak per channel"):
            learn(rule, module, *sample("mlp", 0))
        return
    x, y = sample("mlp", 0)
    if entry.rates and cell.hard:
        with pytest.raises(IncompatibleRule, match="has a hard reset"):
            learn(rule, module, x, y)
        return
    if entry.rates and not cell.traceable:
        with pytest.raises(IncompatibleRule, match="use a static input"):
            learn(rule, module, x, y)
        x = x[:1].expand(6, *x.shape[1:])
    learn(rule, module, x, y)
    if entry.rates and 0.0 in cell.leaks:  # without memory the mean is that of the last step: no spike, or all
        return
    untaught = {"1.leak_logit"} if entry.rates else set()  # rates do not depend on it
    assert {name for name, grad in collected(module).items() if not grad.any()} <= untaught
