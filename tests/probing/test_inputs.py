"""What a forward may do with its input: write to it, read it, be given it in inference mode."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.layers import Feedback
from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.rules import BPTT, DSR, OTTT
from tests.core.support import CE, Lambda, lively
from tests.probing.support import F, N, T, data, wired

RATE = OnRate(nn.functional.cross_entropy)


def shifted(x: Tensor) -> Tensor:
    x -= 0.25
    return x


def masked(x: Tensor) -> Tensor:
    x[:, ::2] = 0.0
    return x


def behind_autograd(x: Tensor) -> Tensor:
    x.data.mul_(2.0)
    return x


def added(x: Tensor) -> Tensor:
    return torch.add(x, 0.5, out=x)


WRITES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "shifted": (shifted, lambda x: x - 0.25),
    "masked": (masked, lambda x: x * torch.tensor([0.0, 1.0] * (F // 2))),
    "relu": (lambda x: (x - 0.5).relu_() + x.clamp_(max=0.5), lambda x: (x - 0.5).relu() + x.clamp(max=0.5)),
    "module": (nn.Hardtanh(0.1, 0.6, inplace=True), nn.Hardtanh(0.1, 0.6)),
    "behind autograd": (behind_autograd, lambda x: 2 * x),
    "out": (added, lambda x: x + 0.5),
}
"""A function that writes to its argument, and the same one that does not."""


def network(first: Callable[[Tensor], Tensor], feedback: bool = False, neuron: type[LIF | IF] = LIF) -> nn.Module:
    lif = neuron()
    back = [Feedback(nn.Linear(F, F), lif)] if feedback else []
    front = Lambda(lambda m, x: first(x))
    return lively(nn.Sequential(front, nn.Linear(F, F), *back, lif, nn.Linear(F, 4)))


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_writing_to_the_input(name: str, feedback: bool) -> None:
    """The run is that of a network that does not write, at every call, and the data stay as they are."""
    written, apart = (Network(network(f, feedback)) for f in WRITES[name])
    x = data()
    expected, before = apart.run(x)[0], x.clone()
    for _ in range(2):
        assert torch.equal(written.run(x)[0], expected) and torch.equal(x, before)
    assert written.wiring(x).writes_input and not apart.wiring(x).writes_input


@pytest.mark.parametrize("name", ["shifted", "masked", "relu", "module"])
def test_writing_to_an_input_whose_gradient_is_asked_for(name: str) -> None:
    gradients = []
    for first in WRITES[name]:
        x = data().requires_grad_()
        Network(network(first)).run(x)[0].sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients) and gradients[0].any()


@pytest.mark.parametrize("name", WRITES)
def test_writing_to_one_step_that_is_repeated(name: str) -> None:
    written, apart = (Network(network(f)) for f in WRITES[name])
    x = data()[0].expand(T, N, F)
    before = x.clone()
    assert torch.equal(written.run(x)[0], apart.run(x)[0]) and torch.equal(x, before)


@pytest.mark.parametrize("rule", [BPTT(chunk=2), OTTT(online=True), DSR()], ids=repr)
@pytest.mark.parametrize("name", ["shifted", "masked", "behind autograd"])
def test_rules_learn_the_same(name: str, rule: BPTT) -> None:
    gradients = []
    for first in WRITES[name]:
        module, x = network(first, neuron=IF), data()[:1].expand(T, N, F)
        loss = RATE if rule.traits.loss == "rate" else CE
        before = x.clone()
        list(rule.updates(Network(module), x, torch.arange(N) % 4, loss))
        assert torch.equal(x, before)
        gradients.append([p.grad for p in module.parameters()])
    assert all(torch.equal(a, b) and a.any() for a, b in zip(*gradients))


def test_integers_at_rates() -> None:
    """Means of integers mean nothing, so the rule shows the data themselves."""

    def forward(x: Tensor) -> Tensor:
        x += 1
        return x

    table = nn.Embedding(10, 2)
    module = nn.Sequential(Lambda(lambda m, x: forward(x)), table, nn.Flatten(), nn.Linear(2 * F, 5), IF())
    x = data("integers")[:1].expand(T, N, F)
    before = x.clone()
    list(DSR().updates(Network(lively(nn.Sequential(module, nn.Linear(5, 4)))), x, torch.arange(N) % 4, RATE))
    assert torch.equal(x, before) and table.weight.grad is not None and not table.weight.grad[0].any()


READS: dict[str, Callable[[Tensor], Tensor]] = {
    "numpy": lambda x: torch.from_numpy(x.numpy().copy()),
    "copied": lambda x: copy.deepcopy(x),
    "no gradient": lambda x: x.requires_grad_(False),
    "a leaf": lambda x: x.requires_grad_(),
}


@pytest.mark.parametrize("name", READS)
def test_what_only_tensors_without_a_graph_allow(name: str) -> None:
    module = network(READS[name])
    assert torch.equal(Network(module).run(data())[0], Network(network(lambda x: x)).run(data())[0])


def test_layers_are_found_where_nothing_asks_for_a_gradient_before_them() -> None:
    module = network(lambda x: x)
    for p in module[1].parameters():
        p.requires_grad_(False)
    assert set(wired(module).synapses["1"].receivers) == {"2"}
    spiking = wired(nn.Sequential(LIF(), nn.Linear(F, F), LIF(), nn.Linear(F, 4)).double().requires_grad_(False))
    assert spiking.successors == {"0": {"2"}, "2": set()}


class Table(nn.Module):
    """Multiplies by tensors that are neither parameters nor buffers, and by a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.rand(F, dtype=torch.float64)
        self.register_buffer("other", torch.rand(F, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain * self.other


@pytest.mark.parametrize("inside", [False, True], ids=["made before", "made in it"])
@pytest.mark.parametrize("feedback", [False, True])
def test_inference_mode(inside: bool, feedback: bool) -> None:
    with torch.inference_mode(inside):
        module = nn.Sequential(network(lambda x: x, feedback)[:-1], Table(), nn.BatchNorm1d(F), nn.Linear(F, 4))
        module = lively(module).eval()
        module[3].weight = nn.Parameter(module[0][1].weight[:4]) if inside else module[3].weight
    held = [*module.parameters(), *module.buffers(), module[1].gain]
    with torch.no_grad():
        expected = Network(copy.deepcopy(module)).run(data())[0]
    with torch.inference_mode():
        output, _ = Network(module).run(data())
    assert torch.equal(output, expected)
    after = [*module.parameters(), *module.buffers(), module[1].gain]
    assert all(a is b and a.is_inference() == inside for a, b in zip(held, after))
