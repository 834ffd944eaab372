"""Layers that a run replaces and that hold others, neurons above all: as if they were written apart."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, NetworkError
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, OTTT, SLTT, Rule
from spikewright.rules.rates.norms import NormName
from tests.core.own_forwards import (
    JOINT,
    NATIVE,
    PAIRS,
    ByHand,
    FlatNormAct,
    LinearMixing,
    Mixing,
    NormAct,
    NormRelu,
    Pair,
    Split,
    network,
)
from tests.core.support import lively
from tests.rules.support import started

T, N = 4, 3


def batches() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(1)
    x = [torch.rand(T, N, 2, 5, 5, generator=source, dtype=torch.float64) for _ in range(2)]
    return [(batch, torch.tensor([0, 2, 1])) for batch in x]


def learned(rule: Rule, net: nn.Module, data: list[tuple[Tensor, Tensor]] | None = None) -> list[Tensor]:
    """Outputs, gradients and buffers of two batches, and how often neurons fire."""
    results, whole = [], Network(net)
    for x, y in data or batches():
        net.zero_grad()
        torch.manual_seed(3)
        loss = OnRate(F.cross_entropy) if rule.traits.loss == "rate" else PerStep(F.cross_entropy)
        updates = list(rule.updates(whole, x, y, loss))
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]
        fired = torch.tensor([*updates[-1].rates.values()])
        assert fired.min() > 0.02
        assert all(grad.abs().max() > 0 for grad in grads if grad.dim() > 1)
        results += [*(u.output.detach() for u in updates), *grads, *(b.clone() for b in net.buffers()), fired]
    return results


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-12, atol=1e-12)


RULES: dict[str, Callable[[], Rule]] = {
    "bptt": lambda: BPTT(chunk=None),
    "bptt-1": lambda: BPTT(chunk=1),
    "sltt-2": lambda: SLTT(chunk=2),
    "ottt": OTTT,
}
CASES = [(rule, name, False) for rule in RULES for name in PAIRS]
CASES += [(rule, name, True) for rule in ("bptt", "ottt") for name in ("norm-act", "cumulative", "drop-norm-act")]
CASES += [("bptt-2", "norm-act", False), ("ottt-2", "norm-act", False), ("ottt-2", "conv-act", False)]
RULES |= {"bptt-2": lambda: BPTT(chunk=2), "ottt-2": lambda: OTTT(chunk=2)}


@pytest.mark.parametrize("rule, name, feedback", CASES)
def test_rules_learn_as_if_they_were_apart(rule: str, name: str, feedback: bool) -> None:
    pair = PAIRS[name]
    joined, apart = network(pair.joined, feedback), network(pair.apart, feedback)
    assert_equal(learned(RULES[rule](), joined), learned(RULES[rule](), apart))


@pytest.mark.parametrize("pair", [JOINT, NATIVE], ids=["joint", "native"])
def test_joint_and_native_norms_learn_as_if_they_were_apart(pair: Pair) -> None:
    joined, apart = (learned(BPTT(chunk=None), network(block)) for block in pair)
    if pair is NATIVE:  # which does not count
        joined, apart = ([x for x in found if x.dtype != torch.long] for found in (joined, apart))
    assert_equal(joined, apart)


@pytest.mark.parametrize("pair", [*PAIRS.values(), JOINT, NATIVE], ids=[*PAIRS, "joint", "native"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_outputs_are_those_of_the_modules_apart(pair: Pair, training: bool) -> None:
    outputs = []
    for block in pair:
        net = network(block)
        with torch.no_grad():
            learned(BPTT(chunk=None), net)  # for the running statistics
            torch.manual_seed(0)
            outputs.append(Network(net.train(training)).run(batches()[0][0])[0])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["norm-act", "cumulative", "act-norm", "drop-act", "conv-act"])
@pytest.mark.parametrize("norm", ["rate", "running", "joint"])
def test_rate_rules_learn_as_if_they_were_apart(name: str, norm: NormName) -> None:
    joined, apart = (learned(DSR(batch_norm=norm), network(block)) for block in PAIRS[name])
    assert_equal(joined, apart)


@pytest.mark.parametrize("rule", [BPTT(), SLTT(chunk=1), DSR(), DSR("running"), DSR("joint")], ids=repr)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_norm_that_holds_nothing_but_does_more(rule: Rule, training: bool) -> None:
    found = []
    for relu in (lambda: [NormRelu(4)], lambda: [nn.BatchNorm2d(4), nn.ReLU()]):
        net = network(lambda: nn.Sequential(*relu(), NormAct(4)))  # noqa: B023
        learned(BPTT(), net, batches()[:1])  # for the running statistics
        if isinstance(rule, DSR):
            with pytest.raises(IncompatibleRule, match="there is relu"):
                learned(rule, net.train(training))
            continue
        found.append(learned(rule, net.train(training)))
    if found:
        assert_equal(*found)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_batches_are_counted_by_step(steps: int) -> None:
    net = network(PAIRS["cumulative"].joined)
    x = batches()[0][0][:steps]
    for _ in range(2):
        Network(net).run(x)
    norm = net[1]
    assert isinstance(norm, NormAct)
    assert norm.num_batches_tracked == 2 * steps
    current = net[0](x.flatten(0, 1)).unflatten(0, (steps, N))
    torch.testing.assert_close(norm.running_mean, current.mean((0, 1, 3, 4)), rtol=1e-12, atol=1e-12)


def test_the_first_run_leaves_the_norm_in_its_mode_and_its_statistics() -> None:
    net = network(PAIRS["norm-act"].joined)
    before = [b.clone() for b in net.buffers()]
    Network(net).wiring(batches()[0][0])
    assert all(m.training for m in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers()))
    assert all("forward" not in vars(m) for m in net.modules())


def test_statistics_of_parts_of_a_batch_are_refused() -> None:
    with pytest.raises(NetworkError, match=r"'1' is Split, whose own forward calls F.batch_norm with 2 of 4 rows"):
        Network(network(lambda: Split(4))).run(batches()[0][0])


def test_statistics_of_its_own_are_refused() -> None:
    net = Network(network(lambda: ByHand(4)))
    with pytest.raises(NetworkError, match=r"'1' is ByHand, whose own forward does not call F.batch_norm in training"):
        net.run(batches()[0][0])
    net.eval()
    net.run(batches()[0][0])


def test_a_layer_inside_a_layer_is_called_once() -> None:
    wiring = Network(network(PAIRS["conv-act"].joined)).wiring(batches()[0][0])
    assert list(wiring.synapses) == ["0", "1", "1.inner", "2", "3", "3.inner", "5"]
    assert wiring.synapses["1"].parameters == ("1.weight", "1.bias")
    assert wiring.ordinary == ["1.norm.weight", "1.norm.bias", "3.norm.weight", "3.norm.bias"]


def test_an_operation_of_neurons_inside_a_layer_is_theirs() -> None:
    x, y = torch.rand(T, N, 6, dtype=torch.float64), torch.tensor([0, 2, 1])
    joined = lively(nn.Sequential(LinearMixing(6, 6), nn.Linear(6, 3)))
    apart = lively(nn.Sequential(nn.Linear(6, 6), Mixing(), nn.Linear(6, 3)))
    assert list(Network(joined).wiring(x).synapses) == ["0", "1"]
    assert_equal(learned(OTTT(), joined, [(x, y)]), learned(OTTT(), apart, [(x, y)]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
@pytest.mark.compile
@pytest.mark.long
def test_it_compiles_in_one_graph() -> None:
    net = Network(lively(nn.Sequential(nn.Linear(4, 6), FlatNormAct(6), nn.Linear(6, 3))))
    x, rule = torch.rand(3, 4, 4, dtype=torch.float64), OTTT()

    def forward(x: Tensor) -> Tensor:
        return started(rule, net, x).advance(x)

    plain = forward(x)
    torch._dynamo.reset()
    compiled = torch.compile(forward, backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, plain, rtol=1e-12, atol=1e-12)


class OwnMask(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return input * torch.bernoulli(torch.full_like(input, 1 - self.p)) if self.training else input


def test_a_dropout_with_a_mask_of_its_own_is_refused_where_it_draws_one() -> None:
    module = nn.Sequential(nn.Linear(8, 12), OwnMask(0.5), LIF(), nn.Linear(12, 4))
    x = torch.rand(3, 2, 8)
    Network(module.eval()).run(x)
    with pytest.raises(NetworkError, match=r"'1' is OwnMask, whose own forward calls no dropout function"):
        Network(module.train()).run(x)
