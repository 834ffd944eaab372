"""A network is a module that is left as it was: streaming, sharing, copying, releasing."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT
from spikewright.temporal import State
from tests.catalogue import RULES, Entry
from tests.core.support import CE, Lambda, lively, two_layers
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import NOISY, gradients, learn, names


def copied(state: State) -> State:
    return {site: {name: value.clone() for name, value in carried.items()} for site, carried in state.items()}


def equal(left: State, right: State) -> None:
    assert {site: set(carried) for site, carried in left.items()} == {s: set(c) for s, c in right.items()}
    for site, carried in left.items():
        for name, value in carried.items():
            torch.testing.assert_close(value, right[site][name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cut", [1, 2, 5])
@pytest.mark.parametrize("name", NETS)
def test_a_stream_may_be_cut_anywhere(name: str, cut: int) -> None:
    net, (x, _) = Network(NETS[name](0)), sample(name, 0)
    whole, end = net.run(x)
    first, state = net.run(x[:cut])
    before = copied(state)
    second, end_of_pieces = net.run(x[cut:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    equal(end_of_pieces, end)
    equal(state, before)


@pytest.mark.parametrize("name", NOISY)
def test_so_may_one_with_masks_and_statistics(name: str) -> None:
    x, _ = sample(name, 0)
    outputs = []
    for pieces in ([6], [1, 5], [2, 2, 2]):
        torch.manual_seed(2)
        net, state, parts = Network(NOISY[name]()), None, list[Tensor]()
        for piece in x.split(pieces):
            part, state = net.run(piece, state)
            parts.append(part)
        outputs.append(torch.cat(parts))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=1e-12, atol=1e-12)


def test_calling_a_network_is_a_run_from_rest() -> None:
    net, (x, _) = Network(NETS["conv"](0)), sample("conv", 0)
    assert torch.equal(net(x), net.run(x)[0])
    assert torch.equal(net(x), net(x))


def test_one_neuron_at_two_places_has_two_membranes() -> None:
    net, (x, y) = Network(NETS["shared"](0)), sample("shared", 0)
    _, state = net.run(x)
    assert set(state) == {"lif", "lif#2"}
    assert not torch.equal(state["lif"]["membrane"], state["lif#2"]["membrane"])
    assert set(learn(BPTT(), NETS["shared"](0), x, y)[-1].rates) == {"lif", "lif#2"}


def twice(tied: bool) -> nn.Module:
    """One synapse at two places, or two synapses with the same numbers."""
    layers = {"stem": nn.Linear(8, 12), "hidden": nn.Linear(12, 12), "out": nn.Linear(12, 4)}
    neurons = {"a": LIF(), "b": LIF(tau=1.5), "c": LIF(tau=3.0)}
    last = "hidden" if tied else "again"

    def forward(m: Lambda, x: Tensor) -> Tensor:
        return m.out(m.c(getattr(m, last)(m.b(m.hidden(m.a(m.stem(x)))))))

    module = lively(Lambda(forward, **layers, **neurons))
    if not tied:
        module.add_module("again", deepcopy(module.get_submodule("hidden")))
    return module


NAMELESS = [entry for entry in RULES if "+FA" not in str(entry)]
"""The rules to which a synapse's name means nothing; feedback alignment draws by it."""


@pytest.mark.parametrize("entry", NAMELESS, ids=names(NAMELESS))
def test_one_synapse_at_two_places_gets_both_gradients(entry: Entry) -> None:
    x, y = sample("mlp", 0)
    found, apart = (gradients(entry.make(), twice(tied), x, y) for tied in (True, False))
    for kind in ("weight", "bias"):
        apart[f"hidden.{kind}"] += apart.pop(f"again.{kind}")
    assert all(grad.any() for grad in found.values())
    assert_agree(found, apart)


@pytest.mark.parametrize("name", ["residual", "feedback", "shared"])
@pytest.mark.long
def test_a_run_leaves_the_module_as_it_was(name: str) -> None:
    module = NETS[name](0)
    before = {n: set(m.__dict__) for n, m in module.named_modules()}
    forwards = {n: m.forward for n, m in module.named_modules()}
    net = Network(module)
    net.run(sample(name, 0)[0])
    for entry in (entry for entry in RULES if entry.learns_in(name)):
        learn(entry.make(), module, *sample(name, 0))
    assert net.release() is module
    assert {n: set(m.__dict__) for n, m in module.named_modules()} == before
    assert {n: m.forward for n, m in module.named_modules()} == forwards


def test_a_failed_run_does_too() -> None:
    def fail(module: nn.Module, x: Tensor) -> Tensor:
        if armed:
            raise ZeroDivisionError("of the user's own")
        return x

    armed = False
    module = nn.Sequential(nn.Linear(8, 12), LIF(), Lambda(fail), nn.Linear(12, 4)).double()
    module[0].forward = kept = lambda x: nn.Linear.forward(module[0], 2 * x)
    net, (x, y) = Network(module), sample("mlp", 0)
    expected = net(x)
    armed = True
    for run in (lambda: net.run(x), lambda: list(OTTT().updates(net, x, y, CE))):
        with pytest.raises(ZeroDivisionError):
            run()
    assert module[0].__dict__["forward"] is kept
    assert not any("forward" in m.__dict__ for m in module[1:])
    armed = False
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize("name", ["mlp", "feedback", "shared"])
def test_a_copy_has_a_life_of_its_own(name: str) -> None:
    (x, y), net = sample(name, 0), Network(NETS[name](0))
    expected = net(x)
    copy = deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(copy(x), expected)
    assert_agree(gradients(OTTT(), copy.module, x, y), gradients(OTTT(), NETS[name](0), x, y))
    list(OTTT().updates(copy, x, y, CE))
    assert all(parameter.grad is None for parameter in net.parameters())
    copies, originals = set(map(id, copy.modules())), set(map(id, net.modules()))
    assert not copies & originals
    assert {id(m.source) for m in copy.modules() if isinstance(m, Feedback)} <= copies


def test_layers_know_nothing_of_time_and_are_called_once_per_chunk() -> None:
    calls = []
    module = two_layers()
    module[2].register_forward_hook(lambda m, args, output: calls.append(output.shape))
    net, (x, y) = Network(module), sample("mlp", 0)
    net.wiring(x)
    calls.clear()
    list(BPTT(chunk=4).updates(net, x, y, CE))
    assert calls == [(4 * 3, 12), (2 * 3, 12)]
