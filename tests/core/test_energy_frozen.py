"""What learning takes where something is frozen: by hand, and beside what torch multiplies in a backward pass."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from spikewright import rules
from spikewright.losses import OnRate, PerStep
from spikewright.metrics import Operations
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.energy_estimate import Energy, energy
from spikewright.rules import BPTT, DSR, EWC, GPM, IDE, OTTT, SLTT, SPIDE, Rule
from spikewright.spatial import DFA, DKP, OPZO, ZO, Local, SignSymmetric
from spikewright.surrogate import Sigmoid
from tests.core.support import Lambda

STEPS, BATCH = 2, 3
A, B, C = 3 * 5, 5 * 4, 4 * 2
"""Weights of the three layers."""


@pytest.fixture(autouse=True)
def in_float64(float64: None) -> None:
    """Batches are taught as whole samples are."""


def chain(learn_tau: bool = False) -> nn.Module:
    """Three layers of 3, 5, 4 and 2, with neurons n and m between them."""
    torch.manual_seed(0)
    neurons = {name: LIF(learn_tau=learn_tau, surrogate=Sigmoid(4.0)) for name in ("n", "m")}
    layers = {"a": nn.Linear(3, 5), "b": nn.Linear(5, 4), "c": nn.Linear(4, 2)}
    return Lambda(lambda s, x: s.c(s.m(s.b(s.n(s.a(x))))), **layers, **neurons)


def freeze(module: nn.Module, *names: str) -> nn.Module:
    """Freeze parameters by the beginning of their name."""
    for name, parameter in module.named_parameters():
        if name.startswith(names):
            parameter.requires_grad_(False)
    return module


def counted(rule: Rule, module: nn.Module, x: Tensor | None = None) -> Energy:
    """The energy of a step on random data; readouts of the rule are made if it has any."""
    x = 2 * torch.rand(STEPS, BATCH, 3) if x is None else x
    net, loss = Network(module), (OnRate if rule.traits.loss == "rate" else PerStep)(F.cross_entropy)
    rule.prepare(net, x)
    return energy(net, rule, x, torch.tensor([0, 1, 1]), loss)


def products(rule: Rule, *frozen: str) -> float:
    """Multiplications of learning, per step."""
    found = counted(rule, freeze(chain(), *frozen)).backward
    assert found is not None
    return found.multiplications / STEPS


FROZEN: dict[str, tuple[tuple[str, ...], float]] = {
    "nothing": ((), A + B + C + (B + C)),
    "a bias": (("a.bias",), A + B + C + (B + C)),
    "the first weight": (("a.weight",), B + C + (B + C)),
    "the first layer": (("a",), B + C + C),
    "the first two": (("a", "b"), C),
    "the second weight": (("b.weight",), A + C + (B + C)),
    "the second layer": (("b",), A + C + (B + C)),
    "the readout": (("c",), A + B + (B + C)),
    "all but a bias": (("a.weight", "b", "c"), B + C),
}


@pytest.mark.parametrize("case", FROZEN)
def test_what_is_frozen_takes_nothing(case: str) -> None:
    frozen, expected = FROZEN[case]
    assert products(BPTT(), *frozen) == products(SLTT(), *frozen) == expected
    assert products(SLTT(k=1), *frozen) == products(DSR(), *frozen) == expected / STEPS
    assert products(OTTT(spatial=SignSymmetric()), *frozen) == products(OTTT(), *frozen)
    assert counted(BPTT(), freeze(chain(), *frozen)).ratio == 1


@pytest.mark.parametrize("case", FROZEN)
def test_traces_are_kept_for_what_learns(case: str) -> None:
    frozen, expected = FROZEN[case]
    learns = [name for name, _ in chain().named_parameters() if not name.startswith(frozen or ("-",))]
    sizes = {"a.weight": 3, "a.bias": 1, "b.weight": 5, "b.bias": 1}
    assert products(OTTT(), *frozen) == expected + sum(sizes.get(name, 0) for name in learns)


@pytest.mark.parametrize("case", FROZEN)
def test_weights_that_no_error_crosses_are_not_transported(case: str) -> None:
    frozen, _ = FROZEN[case]
    crossed = {"the first layer": C, "the first two": 0}.get(case, B + C)
    for rule in (BPTT(), DSR(), OTTT(spatial=SignSymmetric())):
        assert counted(rule, freeze(chain(), *frozen)).feedback_parameters == crossed


@pytest.mark.parametrize("way", [(DFA, 1), (DKP, 2), (OPZO, 2)], ids=lambda way: way[0].__name__)
def test_direct_errors_go_where_something_learns(way: tuple[Callable[[], Any], int]) -> None:
    make, times = way
    n, m = times * 5 * 2, times * 4 * 2
    expected = {(): A + B + C + n + m, ("a",): B + C + m, ("b",): A + C + n, ("a", "b"): C, ("c",): A + B + n + m}
    for frozen, count in expected.items():
        assert products(SLTT(spatial=make()), *frozen) == count, frozen


def test_so_do_losses_times_noise() -> None:
    assert products(SLTT(spatial=ZO())) == A + B + C + 5 + 4
    assert products(SLTT(spatial=ZO()), "a") == B + C + 4


def test_readouts_of_layers_tell_those_that_need_it() -> None:
    n, m = 5 * 2 + 2, 4 * 2 + 2
    plain = {(): A + B + C + (B + C), ("a",): B + C + C, ("a", "b"): C, ("b",): A + C + (B + C)}
    times = {(): (3, 3), ("a",): (2, 3), ("a", "b"): (2, 2), ("b",): (3, 3)}
    for frozen, count in plain.items():
        assert products(SLTT(local=Local()), *frozen) == count + times[frozen][0] * n + times[frozen][1] * m
    cut = {(): A + B + C + 3 * (n + m) + 10 + 8, ("b",): A + C + 3 * n + 2 * m + 10}
    for frozen, count in cut.items():
        assert products(SLTT(spatial=DFA(), local=Local()), *frozen) == count
    rule = SLTT(local=Local())
    counted(rule, chain())
    freeze(rule, "local")
    assert products(rule) == plain[()] + 2 * (n + m)


def test_neurons_that_learn_are_something_in_front() -> None:
    found = counted(BPTT(), freeze(chain(learn_tau=True), "a", "b", "m")).backward
    assert found == Operations(0, STEPS * (C + (B + C)))
    found = counted(BPTT(), freeze(chain(learn_tau=True), "a", "n", "m")).backward
    assert found == Operations(0, STEPS * (B + C + C))


def test_iterations_of_a_solver_pass_only_where_an_error_is_needed() -> None:
    for frozen, once, each in (((), A + B + C + (B + C), B + C), (("a",), B + C + C, C), (("a", "b"), C, 0)):
        module = freeze(chain(), *frozen)
        x, y = 2 * torch.rand(STEPS, BATCH, 3), torch.tensor([0, 1, 1])
        report = list(IDE().updates(Network(module), x, y, OnRate(F.cross_entropy)))[-1].report
        assert report is not None
        assert counted(IDE(), module, x).backward == Operations(0, once + report.iterations * each)
        found = counted(SPIDE(steps=5), module, x).backward
        assert found is not None and found.multiplications == once - each + (C if each else 0)


@pytest.mark.parametrize("kind", ["HLOP", "GPM"])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_frozen_is_not_projected(kind: str, shared: bool) -> None:
    """Of two layers of 4 by 4, which may share a weight; each row of a task takes 4 times 2, in one and in both."""
    torch.manual_seed(0)
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    module = nn.Sequential(first, LIF(), second, LIF(), nn.Linear(4, 2, bias=False))
    if shared:
        second.weight = first.weight
    rule: Any = rules.HLOP(SLTT(), rows=0) if kind == "HLOP" else GPM(SLTT())
    x = torch.rand(STEPS, BATCH, 4)
    rule.prepare(Network(module), x)
    rule.subspaces["0"].add(torch.eye(4)[:1])
    if not shared:
        rule.subspaces["2"].add(torch.eye(4)[:1])

    def own() -> float:
        whole, inner = counted(rule, module, x).backward, counted(SLTT(), module, x).backward
        assert whole is not None and inner is not None
        return whole.multiplications - inner.multiplications

    assert own() == 2 * (4 * 2)
    first.weight.requires_grad_(False)
    assert own() == (0 if shared else 4 * 2)


def test_what_is_frozen_hangs_on_no_spring() -> None:
    rule, module = EWC(SLTT(), hold=False), chain()
    x, y = torch.rand(STEPS, BATCH, 3), torch.tensor([0, 1, 1])
    rule.next_task(Network(module), x, y, PerStep(F.cross_entropy))
    assert products(rule) == A + B + C + (B + C) + 2 * (A + B + C + 5 + 4 + 2) / STEPS
    assert products(rule, "a") == B + C + C + 2 * (B + C + 4 + 2) / STEPS


def test_a_step_is_counted_for_whole_samples() -> None:
    def network(folded: bool) -> nn.Module:
        torch.manual_seed(0)
        layers = {"a": nn.Linear(3, 5), "n": LIF(), "b": nn.Linear(5, 2)}
        if folded:
            return Lambda(lambda s, x: s.b(s.n(s.a(x.reshape(-1, 3)))).unflatten(0, (-1, 4)).mean(1), **layers)
        return Lambda(lambda s, x: s.b(s.n(s.a(x))).mean(1), **layers)

    x = torch.rand(STEPS, BATCH, 4, 3)
    for rule in (BPTT(), OTTT(), OTTT(spatial=OPZO()), SLTT(spatial=ZO()), DSR()):
        one, other = (counted(rule, network(folded), x) for folded in (True, False))
        assert (one.forward, one.backward, one.bptt) == (other.forward, other.backward, other.bptt)


# Beside what torch does.


def stack() -> nn.Module:
    """Layers with no neurons in between, in front of neurons and behind."""
    torch.manual_seed(0)
    layers = {"a": nn.Linear(3, 5), "b": nn.Linear(5, 4), "c": nn.Linear(4, 3), "d": nn.Linear(3, 2)}
    return Lambda(lambda s, x: s.d(s.c(s.n(s.b(s.norm(s.a(x)))))), n=LIF(), norm=nn.LayerNorm(5), **layers)


def branching() -> nn.Module:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(3, 5), "b": nn.Linear(5, 5), "skip": nn.Linear(5, 5), "c": nn.Linear(5, 2)}
    return Lambda(lambda s, x: s.c(s.m(s.b(s.n(h := s.a(x))) + s.skip(h))), n=LIF(), m=LIF(learn_tau=True), **layers)


def normed() -> nn.Module:
    module = chain()
    weight_norm(module.get_submodule("b"))
    return module


NETS: dict[str, Callable[[], nn.Module]] = {"chain": chain, "stack": stack, "branching": branching, "normed": normed}


def sets(module: nn.Module) -> Iterator[tuple[str, ...]]:
    """All sets of the first four parameters, with all others or without, to freeze."""
    names = [name for name, _ in module.named_parameters()]
    for bits in product([False, True], repeat=min(len(names), 4)):
        for rest in (False, True):
            found = [n for n, bit in zip(names, [*bits, *[rest] * len(names)]) if bit]
            if len(found) < len(names):
                yield tuple(found)


def multiplied(rule: Rule, module: nn.Module, x: Tensor) -> float:
    """Products of matrices that a step of a rule takes beyond those of a run, per sample."""
    net, y = Network(module), torch.tensor([0, 1, 1])
    net.wiring(x)
    with FlopCounterMode(display=False) as whole:
        list(rule.updates(net, x, y, PerStep(F.cross_entropy)))
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        net.run(x)
    return (whole.get_total_flops() - forward.get_total_flops()) / 2 / BATCH


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rule", [BPTT, SLTT])
@pytest.mark.long
def test_as_many_products_as_torch_takes(rule: Callable[[], Rule], name: str) -> None:
    x = 2 * torch.rand(STEPS, BATCH, 3)
    for frozen in sets(NETS[name]()):
        module = freeze(NETS[name](), *frozen)
        found = counted(rule(), module, x).backward
        assert found is not None and found.multiplications == multiplied(rule(), module, x), frozen
