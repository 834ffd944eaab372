"""Every rule sees a recurrent layer as feedback in front of its neurons."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from spikewright.layers import Feedback, Recurrent
from spikewright.layers.feedback import First
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.reports import certify, energy, plan
from spikewright.rules import BPTT, IDE, OTTT, SLTT, Rule
from tests.catalogue import RULES, Entry
from tests.core.support import lively
from tests.nets import lif, sample
from tests.rules.support import assert_identical, gradients, learn, loss_for, names, unless_refused

every_rule = pytest.mark.parametrize("entry", RULES, ids=names())
Layer = Callable[[nn.Module, nn.Module, First], nn.Module]


def apart(neuron: nn.Module, transform: nn.Module, first: First) -> nn.Module:
    return nn.Sequential(OrderedDict(back=Feedback(transform, neuron, first), neuron=neuron))


def network(layer: Layer, first: First = "nothing") -> nn.Module:
    """Two recurrent layers, of which the second is convolutional; input `[8]`."""
    dense, image = layer(lif(1.5), nn.Linear(12, 12), first), layer(lif(), nn.Conv2d(1, 1, 3, padding=1), first)
    between = [nn.Linear(12, 9), nn.Unflatten(1, (1, 3, 3)), image, nn.Flatten()]
    return lively(nn.Sequential(nn.Linear(8, 12), dense, *between, nn.Linear(9, 4)), seed=1)


def named(values: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".back.", "."): value for name, value in values.items()}


@pytest.mark.parametrize("first", ["nothing", "bias"])
@every_rule
def test_gradients_are_those_of_feedback_to_the_last_bit(entry: Entry, first: First) -> None:
    unless_refused(entry, "feedback")
    (x, y), found = sample("mlp", 0), []
    for layer in (Recurrent, apart):
        module = network(layer, first)
        updates = learn(entry.make(), module, x, y)
        assert all(0.01 < rate < 0.99 for rate in updates[-1].rates.values()) and len(updates[-1].rates) == 2
        found.append((gradients(entry.make(), module, x, y), updates[-1].rates))
    (ours, rates), (theirs, expected) = found
    theirs = named(theirs)
    assert_identical(dict(sorted(ours.items())), dict(sorted(theirs.items())))
    assert any(value.any() for value in ours.values()) and rates == expected


@pytest.mark.parametrize("rule", [BPTT(), SLTT(), OTTT()], ids=repr)
@pytest.mark.parametrize("first", ["nothing", "bias"])
@pytest.mark.long
def test_reports_are_those_of_feedback(rule: Rule, first: First) -> None:
    x, y = sample("mlp", 0)
    found = []
    for layer in (Recurrent, apart):
        net = Network(network(layer, first))
        checked = certify(net, rule, x, y, loss_for(rule))
        assert checked.ok, checked.table()
        memory, work = plan(net, rule, x.shape), energy(net, rule, x, y, loss_for(rule))
        rows = {row.site: (row.exact, row.relative_error, row.cosine) for row in checked.rows}
        wiring = net.wiring(x)
        assert wiring.carried and not wiring.is_last("1.neuron")
        wired = {s.name: (s.receivers.keys(), s.senders.keys(), s.linear) for s in wiring.synapses.values()}
        found.append((named(rows), [(r.steps, r.saved_bytes) for r in memory.rows], named(wired), work))
    assert found[0] == found[1]
    assert found[0][2]["1.transform"] == ({"1.neuron"}, {"1.neuron"}, True)


@pytest.mark.parametrize("rule", [OTTT(), SLTT(), BPTT(), IDE()], ids=repr)
@pytest.mark.parametrize("first", ["nothing", "bias"])
def test_the_chunk_changes_nothing(rule: Rule, first: First) -> None:
    x, y = sample("mlp", 0)
    found = [gradients(r, network(Recurrent, first), x, y) for r in (rule, type(rule)(chunk=2), type(rule)(chunk=6))]
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(value, other[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [OTTT(), SLTT()], ids=repr)
@pytest.mark.parametrize("first", ["nothing", "bias"])
def test_a_sequence_in_pieces_is_learned_as_a_whole(rule: Rule, first: First) -> None:
    """The state holds the spikes and the traces of the transform; the bias is added once per sequence."""
    (x, y), module = sample("mlp", 0), network(Recurrent, first)
    whole = gradients(rule, module, x, y)
    module.zero_grad()
    state = None
    for piece, share in ((x[:2], 2 / 6), (x[2:], 4 / 6)):
        before = {name: p.grad for name, p in module.named_parameters()}
        module.zero_grad()
        state = learn(rule, module, piece, y, state=state)[-1].state
        for name, p in module.named_parameters():
            assert p.grad is not None or name.startswith("1.transform")
            p.grad = share * (torch.zeros_like(p) if p.grad is None else p.grad)
            p.grad += torch.zeros_like(p) if before[name] is None else before[name]
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.grad, whole[name], rtol=1e-12, atol=1e-12)


def test_a_trace_at_the_recurrent_weight_is_that_of_the_spikes_one_step_ago() -> None:
    """The sum of delta[t] times the trace, of neurons that are the output, written out here."""
    torch.manual_seed(0)
    layer, x, targets = Recurrent(lif(4.0), nn.Linear(5, 5)), torch.rand(7, 2, 5), torch.rand(2, 5)
    module = lively(nn.Sequential(nn.Linear(5, 5), layer))
    found = gradients(OTTT(), module, x, targets, PerStep(functional.mse_loss))
    x = module[0](x).detach()
    membrane, sent, trace, total = torch.zeros(2, 5), torch.zeros(2, 5), torch.zeros(2, 5), torch.zeros(5, 5)
    for t, step in enumerate(x):
        trace = 0.75 * trace + sent
        charged = 0.75 * membrane + step + (layer.transform(sent).detach() if t else 0)
        spikes = (charged >= 1).to(x)
        half = torch.tanh(2 * (charged - 1))
        delta = 2 * (spikes - targets) / targets.numel() / len(x) * (1 - half * half)
        total += delta.T @ trace
        membrane, sent = charged - spikes, spikes
    assert total.any()
    torch.testing.assert_close(found["1.transform.weight"], total, rtol=1e-10, atol=1e-12)
