"""Where the rules must coincide, whatever the network."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.nets import NETS, lif, mlp, sample
from tests.oracles.compare import assert_agree, relative
from tests.oracles.draw import weights
from tests.oracles.machine import Params
from tests.rules.support import CE, assert_identical, gradients, learn

ONLINE = [SLTT, OTTT, partial(OTTT, online=True), partial(OTTT, reference=True), partial(SLTT, k=1)]
EVERY = [*ONLINE, BPTT]


def shown(make: Callable[[], Rule]) -> str:
    return repr(make())


def of_mlp(rule: Rule, tau: float = 2.0, **options: bool) -> Params:
    module = mlp(lif(tau, **options), lif(tau, **options)).double()
    module.load_state_dict(weights("mlp", 0))
    return gradients(rule, module, *sample("mlp", 0))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("make", ONLINE, ids=shown)
def test_one_step_is_bptt(make: Callable[[], Rule], name: str) -> None:
    x, y = sample(name, 0, steps=1)
    assert_identical(gradients(make(), NETS[name](0), x, y), gradients(BPTT(), NETS[name](0), x, y))


@pytest.mark.parametrize("make", [SLTT, OTTT, partial(OTTT, reference=True)], ids=shown)
def test_no_leak_is_bptt(make: Callable[[], Rule]) -> None:
    assert_agree(of_mlp(make(), tau=1.0), of_mlp(BPTT(), tau=1.0))


@pytest.mark.parametrize("leak", [0.0, 1e-300])
@pytest.mark.parametrize("name", NETS)
def test_a_trace_without_leak_is_sltt(name: str, leak: float) -> None:
    """With no leak there is no trace; with one that leaves nothing there is, and it holds the input of the step."""
    forgetful = OTTT(leak=leak, trace_readout=True)
    expected = gradients(SLTT(), NETS[name](0), *sample(name, 0))
    found = gradients(forgetful, NETS[name](0), *sample(name, 0))
    if leak:  # products of more rows at a time: their last bit is the processor's
        assert_agree(found, expected, 1e-15)
    else:
        assert_identical(found, expected)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_the_path_through_the_reset_matters_to_bptt_only(reset: str) -> None:
    def both(rule: Rule) -> list[Params]:
        return [of_mlp(rule, reset=reset, detach_reset=detached) for detached in (True, False)]

    for rule in (SLTT(), OTTT(), OTTT(reference=True)):
        assert_identical(*both(rule))
    assert all(distance > 1e-2 for name, distance in relative(*both(BPTT())).items() if not name.startswith("4"))


def test_what_sltt_drops_is_of_the_order_of_the_leak() -> None:
    def distance(leak: float) -> float:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 12), LIF(tau=1 / (1 - leak)), nn.Linear(12, 4))
        run = module, *sample("mlp", 0)
        return relative(gradients(SLTT(), *run), gradients(BPTT(), *run))["0.weight"]

    assert distance(0.02) > 1e-3
    assert distance(0.02) / distance(0.01) == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize("rule, name", [(SLTT(), "SLTT"), (OTTT(), "OTTT"), (SLTT(k=2), "SLTT")])
def test_a_loss_of_the_mean_output_is_not_for_rules_that_learn_step_by_step(rule: Rule, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} learns at every step, but the loss is OnRate\(CrossEntropyLoss\)"):
        learn(rule, NETS["mlp"](0), *sample("mlp", 0), OnRate(nn.CrossEntropyLoss()))
    with pytest.raises(ValueError, match=r"after all 6 steps. Use PerStep\(CrossEntropyLoss\), .* or .* \(BPTT\)"):
        learn(rule, NETS["mlp"](0), *sample("mlp", 0), OnRate(nn.CrossEntropyLoss()))


@pytest.mark.parametrize("make", EVERY, ids=shown)
def test_gradients_are_added_by_the_backward_of_the_caller(make: Callable[[], Rule]) -> None:
    x, y = sample("mlp", 0)
    once, module = gradients(make(), NETS["mlp"](0), x, y), NETS["mlp"](0)
    rule = make()
    for update in rule.updates(Network(module), x, y, CE, backward=lambda value: (4 * value).backward()):
        assert not update.loss.requires_grad and not update.output.requires_grad
    assert_identical({n: p.grad / 4 for n, p in module.named_parameters() if p.grad is not None}, once)
    if not isinstance(rule, SLTT) or rule.k is None:
        learn(rule, module, x, y)
        assert_agree({n: p.grad / 5 for n, p in module.named_parameters() if p.grad is not None}, once)
