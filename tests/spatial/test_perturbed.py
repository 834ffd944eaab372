"""What noise reaches while a network learns: the layers behind it, and neither traces nor weight gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.layers import StepDropout
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OPZO as PseudoZerothOrder
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA, OPZO, ZO, Local, Spatial
from spikewright.spatial._base import Lesson
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import CE, collected, gradients, learn

X, Y = sample("mlp", 0)


def lesson(rule: OnlineRule, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    """What the layers of a network learn from in a sequence that runs as one chunk."""
    seen, signals = [], rule.spatial.signals
    monkeypatch.setattr(rule.spatial, "signals", lambda lesson: (seen.append(lesson), signals(lesson))[1])
    learn(rule, module, X, Y)
    (only,) = seen
    return only


@pytest.mark.parametrize("make", [OPZO, ZO])
def test_behind_neurons_it_is_added_to_what_they_send(make: type[OPZO | ZO], monkeypatch: pytest.MonkeyPatch) -> None:
    module, alpha = NETS["mlp"](0), 0.3
    seen = lesson(SLTT(chunk=6, spatial=make(alpha=alpha)), module, monkeypatch)
    assert all(((s == 0) | (s == 1)).all() for s in seen.activity.values())
    noisy = seen.activity["3"] + seen.noise["3"]
    assert float(seen.noise["3"].std()) == pytest.approx(alpha, rel=0.2)
    torch.testing.assert_close(
        seen.targets["output"].vector, module.get_submodule("4")(noisy).detach(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("make", [OPZO, ZO])
def test_in_front_it_is_added_to_their_current(make: type[OPZO | ZO], monkeypatch: pytest.MonkeyPatch) -> None:
    module, alpha = NETS["mlp"](0), 0.3
    seen = lesson(SLTT(chunk=6, spatial=make(alpha=alpha, position="pre")), module, monkeypatch)
    assert float(seen.noise["1"].std()) == pytest.approx(alpha, rel=0.2)
    rest = torch.zeros(3, 12)
    for x, z, spikes in zip(X, seen.noise["1"], seen.activity["1"]):
        charged = 0.5 * rest + module.get_submodule("0")(x).detach() + z
        assert torch.equal((charged >= 1).double(), spikes)
        rest = charged - spikes
    output = module.get_submodule("4")(seen.activity["3"]).detach()
    torch.testing.assert_close(seen.targets["output"].vector, output, rtol=1e-12, atol=1e-12)


def test_errors_are_those_of_the_perturbed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = lesson(OTTT(chunk=6, spatial=OPZO(alpha=0.5)), NETS["mlp"](0), monkeypatch)
    output = seen.targets["output"]
    expected = (output.vector.softmax(2) - nn.functional.one_hot(Y, 4)) / (len(X) * len(Y))
    torch.testing.assert_close(output.error, expected, rtol=1e-12, atol=1e-12)
    each = -output.vector.log_softmax(2).gather(2, Y.expand(len(X), -1)[..., None])[..., 0] / (len(X) * len(Y))
    torch.testing.assert_close(seen.terms(), each, rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize("spatial", [DFA, ZO, lambda: OPZO(momentum=0.5)], ids=["DFA", "ZO", "OPZO"])
def test_a_scaled_loss_scales_gradients_and_nothing_that_is_learned(spatial: Callable[[], Spatial]) -> None:
    def scaled(factor: float) -> tuple[Params, dict[str, Any]]:
        module, rule = NETS["mlp"](0), OTTT(spatial=spatial(), local=Local(weight=0.5))
        torch.manual_seed(6)
        rule.prepare(Network(module), X)
        list(rule.updates(Network(module), X, Y, CE, backward=lambda value: (value * factor).backward()))
        return {**collected(module), **collected(rule)}, dict(rule.spatial.named_buffers())

    (one, learned), (many, same) = scaled(1.0), scaled(1024.0)
    assert all(torch.equal(many[name], 1024 * grad) for name, grad in one.items())
    assert all(torch.equal(same[name], buffer) for name, buffer in learned.items())


def test_learning_at_every_step_adds_up_to_the_same() -> None:
    once, often = (gradients(PseudoZerothOrder(0.5, online=online), NETS["mlp"](0), X, Y) for online in (False, True))
    assert_agree(often, once, 1e-14)
