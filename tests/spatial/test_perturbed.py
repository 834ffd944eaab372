"""What noise reaches while a network learns: the layers behind it, and neither traces nor weight gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from spikewright.network import Network
from spikewright.rules import OPZO as PseudoZerothOrder
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA, DKP, OPZO, ZO, Local, Spatial
from spikewright.spatial._base import ChunkSample
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Params
from tests.rules.support import CE, collected, gradients, learn
from tests.spatial.support import watched

X, Y = sample("mlp", 0)


def chunk(rule: OnlineRule, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> ChunkSample:
    """What the layers of a network learn from in a sequence that runs as one chunk."""
    seen = watched(rule.spatial, monkeypatch)
    learn(rule, module, X, Y)
    (only,) = seen
    return only


@pytest.mark.parametrize("make", [OPZO, ZO])
def test_behind_neurons_it_is_added_to_what_they_send(make: type[OPZO | ZO], monkeypatch: pytest.MonkeyPatch) -> None:
    module, alpha = NETS["mlp"](0), 0.3
    seen = chunk(SLTT(chunk=6, spatial=make(alpha=alpha)), module, monkeypatch)
    assert all(((s == 0) | (s == 1)).all() for s in seen.activity.values())
    noisy = seen.activity["3"] + seen.noise["3"]
    assert float(seen.noise["3"].std()) == pytest.approx(alpha, rel=0.2)
    torch.testing.assert_close(
        seen.targets["output"].vector, module.get_submodule("4")(noisy).detach(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("make", [OPZO, ZO])
def test_in_front_it_is_added_to_their_current(make: type[OPZO | ZO], monkeypatch: pytest.MonkeyPatch) -> None:
    module, alpha = NETS["mlp"](0), 0.3
    seen = chunk(SLTT(chunk=6, spatial=make(alpha=alpha, position="pre")), module, monkeypatch)
    assert float(seen.noise["1"].std()) == pytest.approx(alpha, rel=0.2)
    rest = torch.zeros(3, 12)
    for x, z, spikes in zip(X, seen.noise["1"], seen.activity["1"]):
        charged = 0.5 * rest + module.get_submodule("0")(x).detach() + z
        assert torch.equal((charged >= 1).double(), spikes)
        rest = charged - spikes
    output = module.get_submodule("4")(seen.activity["3"]).detach()
    torch.testing.assert_close(seen.targets["output"].vector, output, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [OPZO, ZO])
def test_weight_gradients_are_taken_at_spikes_without_it(
    make: type[OPZO | ZO], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = NETS["mlp"](0)
    for kind in (OTTT, SLTT):
        rule = kind(spatial=make(alpha=0.5))
        seen = watched(rule.spatial, monkeypatch)
        for k in range(len(Y)):
            one = slice(k, k + 1)
            found = gradients(rule, module, X[:1, one], Y[one])  # of one step: that of the bias times the spikes
            for site, synapse in (("1", "2"), ("3", "4")):
                expected = torch.outer(found[f"{synapse}.bias"], seen[-1].activity[site].flatten())
                torch.testing.assert_close(found[f"{synapse}.weight"], expected)


def test_traces_are_those_of_spikes_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module, rule = NETS["mlp"](0), OTTT(spatial=OPZO(alpha=0.5), chunk=6)
    seen = watched(rule.spatial, monkeypatch)
    (update,) = learn(rule, module, X, Y)
    expected = sum(0.5 ** (5 - step) * spikes for step, spikes in enumerate(seen[0].activity["1"]))
    torch.testing.assert_close(update.state["2"]["trace"], expected)


def test_errors_are_those_of_the_perturbed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = chunk(OTTT(chunk=6, spatial=OPZO(alpha=0.5)), NETS["mlp"](0), monkeypatch)
    output = seen.targets["output"]
    expected = (output.vector.softmax(2) - nn.functional.one_hot(Y, 4)) / (len(X) * len(Y))
    torch.testing.assert_close(output.error, expected, rtol=1e-12, atol=1e-12)
    each = -output.vector.log_softmax(2).gather(2, Y.expand(len(X), -1)[..., None])[..., 0] / (len(X) * len(Y))
    torch.testing.assert_close(seen.terms(), each, rtol=1e-12, atol=1e-12)


SCALED: dict[str, Callable[[], Spatial]] = {
    "DFA": DFA,
    "DKP": lambda: DKP(lr=5.0),
    "ZO": ZO,
    "OPZO": lambda: OPZO(momentum=0.5),
}


@pytest.mark.parametrize("way", SCALED)
def test_a_scaled_loss_scales_gradients_and_nothing_that_is_learned(way: str) -> None:
    def scaled(factor: float) -> tuple[Params, dict[str, Any]]:
        module, rule = NETS["mlp"](0), OTTT(spatial=SCALED[way](), local=Local(weight=0.5))
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
