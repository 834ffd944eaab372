"""What the tests of rules share: running a rule, and a few networks beyond those of `tests/nets.py`."""

from collections.abc import Iterable
from functools import cache, lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule
from spikewright.layers import StepDropout
from spikewright.losses import Loss, OnRate, PerStep
from spikewright.network import Network
from spikewright.network.run import Run
from spikewright.neurons import LIF
from spikewright.rules import OnlineRule, Rule, Update
from spikewright.rules._weight_hooks import WeightHooks
from spikewright.temporal import State
from tests.catalogue import RULES, Entry
from tests.nets import NETS, sample
from tests.oracles import bptt
from tests.oracles.compare import case
from tests.oracles.machine import Params

CE = PerStep(F.cross_entropy)


@lru_cache(maxsize=32)
def network(module: nn.Module) -> Network:
    """The network around a module, the same for all its runs, so that it is looked at once."""
    return Network(module)


@cache
def _built(name: str) -> tuple[nn.Module, Params]:
    module = NETS[name](0)
    return module, {key: value.clone() for key, value in module.state_dict().items()}


def as_new(name: str) -> nn.Module:
    """A network of `tests/nets.py` with its first weights: one for all rules, whatever others have run on it."""
    module, state = _built(name)
    module.load_state_dict(state)
    module.zero_grad()
    assert all(m.training for m in module.modules())
    return module


def collected(module: nn.Module) -> Params:
    """The gradients of a module; zero where there is none."""
    return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}


def loss_for(rule: Rule) -> Loss:
    """Cross-entropy in the form that a rule can learn from."""
    return OnRate(F.cross_entropy) if rule.traits.loss == "rate" else CE


def started(rule: Rule, net: Network, x: Tensor) -> Run:
    """A run with the hooks of a rule at weights, and through time or not as it says."""
    hooks = WeightHooks(rule.on_weight, net.wiring(x)) if isinstance(rule, OnlineRule) else None
    return net.start(x, hooks=hooks, through_time=rule.traits.credit_through_time)


def learn(
    rule: Rule, module: nn.Module, x: Tensor, y: Tensor, loss: Loss | None = None, state: State | None = None
) -> list[Update]:
    """Run a rule on one batch; the gradients are left in the module."""
    return list(rule.updates(network(module), x, y, loss or loss_for(rule), state))


def gradients(rule: Rule, module: nn.Module, x: Tensor, y: Tensor, loss: Loss | None = None) -> Params:
    """The gradients of a rule, summed over its updates; whatever the module held before is dropped."""
    module.zero_grad()
    torch.default_generator.manual_seed(3)
    learn(rule, module, x, y, loss)
    return {name: grad.clone() for name, grad in collected(module).items()}


def prepared(entry: Entry, module: nn.Module, x: Tensor) -> Rule:
    """A rule that has learned nothing yet, with all that depends on the sizes of a network."""
    rule = entry.make()
    rule.prepare(network(module), x)
    return rule


@cache
def found(entry: Entry, name: str) -> Params:
    """The gradients of a rule on a network of `tests/nets.py`."""
    return gradients(entry.make(), as_new(name), *sample(name, 0))


@cache
def by_program(entry: Entry, name: str) -> Params:
    """The same by an explicit program."""
    return entry.oracle(prepared(entry, as_new(name), case(name)[2]), case(name))


@cache
def by_bptt(entry: Entry, name: str) -> Params:
    """What BPTT says about the loss of a rule, by its explicit program."""
    return (bptt.gradients_of_mean if entry.rates else bptt.gradients)(*case(name))


def assert_identical(left: Params, right: Params) -> None:
    """Equality to the last bit."""
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def unless_refused(entry: Entry, name: str) -> None:
    """Go on with a test on a network, or on another of its kind, unless the rule refuses it; and see that it does."""
    if entry.learns_in(name):
        return
    with pytest.raises(IncompatibleRule):
        learn(entry.make(), as_new(name), *sample(name, 0))
    pytest.skip(f"refuses '{name}', as it has to")


def names(entries: Iterable[Entry] = RULES) -> list[str]:
    return [str(entry) for entry in entries]


def dense(*, step_dropout: bool = True) -> nn.Module:
    """Per-step batch norm and both kinds of dropout between linear layers, in training mode; input `[8]`."""
    torch.default_generator.manual_seed(7)
    last = StepDropout(0.3) if step_dropout else nn.Identity()
    first = [nn.Linear(8, 12, bias=False), nn.BatchNorm1d(12), LIF(), nn.Dropout(0.4)]
    return nn.Sequential(*first, nn.Linear(12, 10), last, LIF(), nn.Linear(10, 4)).double()


def image() -> nn.Module:
    """The same between convolutions; input `[2, 8, 8]`."""
    torch.default_generator.manual_seed(8)
    first = [nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), LIF(), nn.Dropout2d(0.4), nn.AvgPool2d(2)]
    last = [nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), LIF(), nn.Flatten(), StepDropout(0.3), nn.Linear(8, 4)]
    return nn.Sequential(*first, *last).double()


NOISY = {"mlp": dense, "conv": image}
"""Networks with statistics and masks, by the network of `tests/nets.py` whose data they take."""
