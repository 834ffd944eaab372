"""`updates` checks its arguments at the call, and says so if nobody asks for what it makes."""

import gc
import warnings

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError, IncompatibleRule, InputError, ShapeError
from spikewright.losses import OnRate, PerStep
from spikewright.rules import BPTT, DSR, HLOP, OTTT, SLTT

X, Y, LOSS = torch.rand(4, 2, 3), torch.tensor([0, 1]), PerStep(nn.CrossEntropyLoss())


def network() -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(3, 5), sw.LIF(), nn.Linear(5, 2)).float())


def test_wrong_arguments_are_refused_at_the_call() -> None:
    with pytest.raises(ShapeError):
        BPTT().updates(network(), X[:, :, :2], Y, LOSS)
    with pytest.raises(InputError):
        OTTT().updates(network(), X, Y + 5, LOSS)
    with pytest.raises(IncompatibleRule):
        DSR().updates(network(), X, Y, LOSS)
    with pytest.raises(IncompatibleRule, match="not linear"):
        squared = sw.Network(nn.Sequential(nn.Softmax(-1), nn.Linear(3, 5), sw.IF(), nn.Linear(5, 2)).float())
        DSR().updates(squared, X, Y, OnRate(nn.CrossEntropyLoss()))
    with pytest.raises(ConfigError, match="k=9"):
        SLTT(k=9).updates(network(), X, Y, LOSS)
    with pytest.raises(ConfigError):
        HLOP(OTTT()).updates(network().module, X, Y, LOSS)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [BPTT(), OTTT(online=True), DSR(), HLOP(OTTT())], ids=lambda r: type(r).__name__)
@pytest.mark.long
def test_updates_that_nobody_asks_for(rule: sw.rules.Rule) -> None:
    net, loss = network(), OnRate(nn.CrossEntropyLoss()) if rule.traits.loss == "rate" else LOSS
    with pytest.warns(UserWarning, match=rf"^{type(rule).__name__}.updates.* never asked for") as caught:
        rule.updates(net, X, Y, loss)
        gc.collect()
    assert caught[0].filename == __file__
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.long
def test_updates_that_are_asked_for() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in OTTT(online=True).updates(network(), X, Y, LOSS):
            break
        next(BPTT().updates(network(), X, Y, LOSS))
        gc.collect()


def test_a_frozen_network_is_told_of() -> None:
    net = network().requires_grad_(False)
    for rule in BPTT(), OTTT(), OTTT(spatial=sw.spatial.DFA()), DSR():
        loss = OnRate(nn.CrossEntropyLoss()) if rule.traits.loss == "rate" else LOSS
        for learn in (
            lambda rule=rule, loss=loss: rule.updates(net, X, Y, loss),
            lambda rule=rule, loss=loss: sw.certify(net, rule, X, Y, loss),
            lambda rule=rule, loss=loss: sw.energy(net, rule, X, Y, loss),
            lambda rule=rule: sw.plan(net, rule, X.shape),
        ):
            with pytest.raises(InputError, match="no parameter of the network requires one"):
                learn()


def test_inference_mode_leaves_no_graph_to_learn_by() -> None:
    net = sw.Network(nn.Sequential(nn.Linear(4, 3), sw.LIF(), nn.Linear(3, 2)))
    x, y, loss = torch.rand(3, 2, 4), torch.tensor([0, 1]), sw.losses.PerStep(nn.CrossEntropyLoss())
    for rule in (sw.rules.BPTT(), sw.rules.OTTT(), sw.rules.OPZO()):
        with torch.inference_mode(), pytest.raises(ConfigError, match=r"was called in inference mode"):
            rule.updates(net, x, y, loss)
        with torch.no_grad():
            (update,) = rule.updates(net, x, y, loss)
        assert update.loss.isfinite() and net.module[2].weight.grad is not None
