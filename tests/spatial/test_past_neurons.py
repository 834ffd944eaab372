"""Currents that reach the output past the neurons they feed: errors arrive at them from both sides of a cut."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import HLOP, OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA, DKP, OPZO, Local
from tests.catalogue import RULES, Entry, _matrices
from tests.core.support import Lambda, lively
from tests.oracles import direct
from tests.oracles.compare import assert_agree
from tests.oracles.direct import Cut
from tests.oracles.draw import sample
from tests.oracles.machine import Params
from tests.oracles.ottt import Traces
from tests.rules.support import CE, gradients, names

CUTTING = [entry for entry in RULES if any(f"+{way}(" in str(entry) for way in ("DFA", "DKP", "ZO", "OPZO"))]
Program = Callable[[Tensor, Cut], Tensor]


def projected(x: Tensor, net: Cut) -> Tensor:
    current = net.syn("fc", x, post="cell")
    return net.syn("out", net.lif("cell", current, 2.0), pre="cell") + net.syn("proj", current)


def sliced(x: Tensor, net: Cut) -> Tensor:
    """Both currents go on to the output, one of them without a weight of its own."""
    first = net.syn("fc1", x, post="lif1")
    second = net.syn("fc2", net.lif("lif1", first, 2.0), pre="lif1", post="lif2")
    return net.syn("out", net.lif("lif2", second, 3.0), pre="lif2") + first[:, 4:8] + second[:, :4] ** 2


def two_neurons(x: Tensor, net: Cut) -> Tensor:
    """One current feeds two layers of neurons and the output."""
    current = net.syn("fc", x, post="cell")
    both = torch.cat([net.lif("cell", current, 2.0), net.lif("other", current - 0.3, 2.0)], 1)
    return net.syn("out", both, pre="cell") + torch.tanh(current[:, :4])


def image(x: Tensor, net: Cut) -> Tensor:
    current = net.syn("conv", x, post="cell", padding=1)
    spikes = F.avg_pool2d(net.lif("cell", current, 2.0), 4)
    past = F.avg_pool2d(current, 4).flatten(1)
    return net.syn("out", spikes.flatten(1), pre="cell") + net.syn("proj", past)


NETS: dict[str, tuple[Program, Callable[[Any, Tensor], Tensor], dict[str, Callable[[], nn.Module]], str]] = {
    "projected": (
        projected,
        lambda m, x: m.out(m.cell(c := m.fc(x))) + m.proj(c),
        {
            "fc": lambda: nn.Linear(8, 12),
            "cell": LIF,
            "out": lambda: nn.Linear(12, 4),
            "proj": lambda: nn.Linear(12, 4),
        },
        "mlp",
    ),
    "sliced": (
        sliced,
        lambda m, x: m.out(m.lif2(b := m.fc2(m.lif1(a := m.fc1(x))))) + a[:, 4:8] + b[:, :4] ** 2,
        {
            "fc1": lambda: nn.Linear(8, 12),
            "lif1": LIF,
            "fc2": lambda: nn.Linear(12, 10),
            "lif2": partial(LIF, 3.0),
            "out": lambda: nn.Linear(10, 4),
        },
        "mlp",
    ),
    "two neurons": (
        two_neurons,
        lambda m, x: m.out(torch.cat([m.cell(c := m.fc(x)), m.other(c - 0.3)], 1)) + torch.tanh(c[:, :4]),
        {"fc": lambda: nn.Linear(8, 12), "cell": LIF, "other": LIF, "out": lambda: nn.Linear(24, 4)},
        "mlp",
    ),
    "image": (
        image,
        lambda m, x: m.out(m.pool(m.cell(c := m.conv(x))).flatten(1)) + m.proj(m.pool(c).flatten(1)),
        {
            "conv": lambda: nn.Conv2d(2, 6, 3, padding=1),
            "cell": LIF,
            "pool": lambda: nn.AvgPool2d(4),
            "out": lambda: nn.Linear(24, 4),
            "proj": lambda: nn.Linear(24, 4),
        },
        "conv",
    ),
}


def built(name: str) -> nn.Module:
    _, forward, layers, _ = NETS[name]
    return lively(Lambda(forward, **{key: make() for key, make in layers.items()}))


def case(name: str) -> tuple[Any, ...]:
    params = {key: p.detach() for key, p in built(name).named_parameters()}
    return NETS[name][0], params, *sample(NETS[name][3], 0), F.cross_entropy


def ready(rule: OnlineRule, name: str) -> OnlineRule:
    torch.manual_seed(8)
    rule.prepare(Network(built(name)), case(name)[2])
    return rule


@pytest.mark.parametrize("entry", CUTTING, ids=names(CUTTING))
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_every_way_that_cuts(entry: Entry, name: str, chunk: int | None) -> None:
    expected = entry.oracle(ready(entry.make(), name), case(name))  # type: ignore[arg-type]
    found = gradients(ready(entry.make(chunk=chunk), name), built(name), *case(name)[2:4])
    assert_agree(found, expected, 1e-12)
    assert all(grad.any() for grad in found.values())


def by_hand(rule: OnlineRule, name: str, last: frozenset[str] = frozenset(), output: str = "") -> Params:
    """Of fixed feedback, with readouts; errors start from the output, or from what arrives at a readout."""
    local, params = rule.local, case(name)[1]
    matrices = {key.split()[1]: rule.spatial.matrices[key].clone() for key in rule.spatial.matrices}  # type: ignore
    program, _, x, y, criterion = case(name)
    machine, total = Cut(params, Traces(), set(last), None, 0.0, True), torch.zeros(())
    for o in machine.run(program, x):
        leaf = o.detach().requires_grad_()
        (error,) = torch.autograd.grad(criterion(leaf, y) / len(x), leaf)
        total = total + (o * error).sum()
        sent = error @ params[f"{output}.weight"] if output else error
        for layer, spikes in machine.spikes.items():
            if layer in matrices:
                total = total + (spikes.flatten(1) * (sent @ matrices[layer].T)).sum()
            if local is not None:
                own = spikes.detach().requires_grad_()
                loss = criterion(local.read(layer, own.unsqueeze(0))[0], y) / len(x)
                (arrived,) = torch.autograd.grad(local.weight * loss, own)
                total = total + (spikes * arrived).sum()
    return machine.gradients(total)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [1, 4])
def test_with_readouts_of_every_layer(name: str, chunk: int) -> None:
    rule = ready(OTTT(spatial=DFA(), local=Local(0.7), chunk=chunk), name)
    expected = by_hand(rule, name)
    assert_agree(gradients(rule, built(name), *case(name)[2:4]), expected, 1e-12)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("local", [None, Local(0.7)], ids=["alone", "with readouts"])
def test_from_what_arrives_at_the_readout(local: Local | None, chunk: int) -> None:
    rule = ready(OTTT(spatial=DFA(route="penultimate"), local=local, chunk=chunk), "sliced")
    expected = by_hand(rule, "sliced", frozenset({"lif2"}), "out")
    assert_agree(gradients(rule, built("sliced"), *case("sliced")[2:4]), expected, 1e-12)


def spikes_and_current(x: Tensor, net: Cut) -> Tensor:
    first = net.syn("fc1", x, post="lif1")
    current = net.syn("fc2", net.lif("lif1", first, 2.0), pre="lif1", post="lif2")
    return net.lif("lif2", current, 2.0) + current + torch.sin(first[:, :4])


def test_neurons_that_are_the_output_beside_their_current() -> None:
    def build() -> nn.Module:
        layers = {"fc1": nn.Linear(8, 12), "lif1": LIF(), "fc2": nn.Linear(12, 4), "lif2": LIF()}

        def forward(m: Any, x: Tensor) -> Tensor:
            a = m.fc1(x)
            c = m.fc2(m.lif1(a))
            return m.lif2(c) + c + torch.sin(a[:, :4])

        return lively(Lambda(forward, **layers))

    (x, y), rule = sample("mlp", 0), OTTT(spatial=DFA())
    rule.prepare(Network(build()), x)
    params = {key: p.detach() for key, p in build().named_parameters()}
    signal = direct.fixed(_matrices(rule))
    only = {"lif1"}

    def signals(name: str, activity: Tensor, *rest: Any) -> Tensor:
        return signal(name, activity, *rest) if name in only else torch.zeros_like(activity)

    expected = direct.gradients(spikes_and_current, params, x, y, F.cross_entropy, signals, last=frozenset({"lif2"}))
    assert_agree(gradients(rule, build(), x, y), expected, 1e-12)


@pytest.mark.parametrize("way", [DFA, DKP, OPZO])
@pytest.mark.parametrize("route", ["output", "penultimate"])
@pytest.mark.parametrize("position", ["inputs", "gradient"])
def test_projected_gradients_see_both_sides(way: Any, route: str, position: Any) -> None:
    """A projection of rows is linear, so that it does not matter how often it is asked for."""
    found = []
    for project in (position, "gradient"):
        module, (x, y) = built("sliced"), case("sliced")[2:4]
        rule = HLOP(SLTT(spatial=way(route=route)), project=project)
        net = Network(module)
        rule.prepare(net, x)
        list(rule.updates(net, x, y, CE))
        rule.next_task(net, x, y, CE)
        rule.freeze(net)
        net.zero_grad()
        list(rule.updates(net, x, y, CE))
        found.append({key: p.grad for key, p in module.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 3
    assert_agree(*found, 1e-9)  # type: ignore[arg-type]
