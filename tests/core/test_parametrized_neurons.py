"""Constants of neurons that torch computes from other parameters, beside an explicit program of single steps."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from spikewright.layers import SynapticDelay
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import DSRIF, DSRLIF, LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, DSR, OTTT, SLTT, Rule
from tests.oracles.machine import Params, Spike

T, N = 6, 3
TAUS = [1.5, 3.0, 5.0, 2.5]


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x


class Scaled(nn.Module):
    """Has a parameter of its own, and an inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / self.scale


def parametrized(module: nn.Module, name: str, *steps: nn.Module) -> nn.Module:
    for step in steps:
        register_parametrization(module, name, step)
    return module


def normed(params: Params) -> Tensor:
    g, v = (params[f"1.parametrizations.leak_logit.original{i}"] for i in (0, 1))
    return g * v / v.abs()


@dataclass(frozen=True)
class Case:
    """Neurons with a constant that is computed, and what their leak, threshold and firing point are by hand."""

    make: Callable[[], nn.Module]
    leak: Callable[[Params], Tensor | float]
    threshold: Callable[[Params], Tensor | float] = lambda params: 1.0
    fraction: float = 1.0


ORIGINAL = "1.parametrizations.leak_logit.original"
THRESHOLD = "1.parametrizations.threshold.original"
CASES = {
    "one leak": Case(
        lambda: parametrized(LIF(tau=3.0, learn_tau=True), "leak_logit", Halved()),
        lambda p: torch.sigmoid(0.5 * p[ORIGINAL]),
    ),
    "leaks": Case(
        lambda: parametrized(LIF(tau=TAUS, learn_tau=True), "leak_logit", Scaled(), Halved()),
        lambda p: torch.sigmoid(0.5 * p["1.parametrizations.leak_logit.0.scale"] * p[ORIGINAL]),
    ),
    "weight norm": Case(
        lambda: parametrizations.weight_norm(LIF(tau=TAUS, learn_tau=True).double(), "leak_logit"),
        lambda p: torch.sigmoid(normed(p)),
    ),
    "spectral norm": Case(
        lambda: parametrizations.spectral_norm(LIF(tau=TAUS, learn_tau=True).double(), "leak_logit"),
        lambda p: torch.sigmoid(p[ORIGINAL] / p[ORIGINAL].norm()),
    ),
    "weight norm by hook": Case(
        lambda: weight_norm(LIF(tau=TAUS, learn_tau=True).double(), "leak_logit"),
        lambda p: torch.sigmoid(p["1.leak_logit_g"] * p["1.leak_logit_v"] / p["1.leak_logit_v"].abs()),
    ),
    "pruned": Case(
        lambda: prune.custom_from_mask(LIF(tau=TAUS, learn_tau=True), "leak_logit", torch.tensor([1, 0, 1, 1])),
        lambda p: torch.sigmoid(torch.tensor([1, 0, 1, 1]) * p["1.leak_logit_orig"]),
    ),
    "threshold": Case(
        lambda: parametrized(DSRIF(threshold=0.8, threshold_grad=1.0), "threshold", Scaled()),
        lambda p: 1.0,
        lambda p: p["1.parametrizations.threshold.0.scale"] * p[THRESHOLD],
        0.5,
    ),
}
WARNS = pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")


def network(case: Case) -> nn.Module:
    torch.manual_seed(0)
    neurons, first = case.make(), nn.Linear(5, 4)
    with torch.no_grad():
        first.weight.mul_(3).add_(0.3)
    module = nn.Sequential(first, neurons, nn.Linear(4, 3)).double()
    return module


def data() -> tuple[Tensor, Tensor]:
    return torch.rand(T, N, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64), torch.tensor([0, 2, 1])


def by_hand(case: Case, params: Params, cut: bool) -> Params:
    """The gradients of one step after the other."""
    x, y = data()
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    leak, threshold = case.leak(leaves), case.threshold(leaves)
    loss, v = torch.zeros((), dtype=torch.float64), torch.zeros(N, 4, dtype=torch.float64)
    for step in x:
        u = leak * v + F.linear(step, leaves["0.weight"], leaves["0.bias"]) / threshold
        s = Spike.apply(u - case.fraction)
        v = u - s.detach()
        v = v.detach() if cut else v
        loss = loss + F.cross_entropy(F.linear(threshold * s, leaves["2.weight"], leaves["2.bias"]), y) / T
    found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found))


def learned(rule: Rule, module: nn.Module) -> Params:
    x, y = data()
    module.zero_grad()
    updates = list(rule.updates(Network(module), x, y, PerStep(F.cross_entropy)))
    assert 0.05 < updates[-1].rates["1"] < 0.95
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in module.named_parameters()}


@WARNS
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=2), BPTT(checkpoint=True), SLTT(), SLTT(chunk=3)], ids=repr)
def test_gradients_are_those_of_single_steps(name: str, rule: Rule) -> None:
    module = network(CASES[name]).train(name != "spectral norm")  # whose vectors go on in training
    found = learned(rule, module)
    expected = by_hand(CASES[name], dict(module.named_parameters()), cut=isinstance(rule, SLTT))
    assert found.keys() == expected.keys() and any("1." in key and value.any() for key, value in expected.items())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["one leak", "threshold"])
def test_what_rules_claim_of_them_is_true(name: str) -> None:
    x, y = data()
    rows = certify(Network(network(CASES[name])), OTTT(), x, y, PerStep(F.cross_entropy)).rows
    assert all(row.match or row.relative_error < 1e-9 for row in rows)
    assert {row.site for row in rows if row.exact} >= {"0.weight", "2.weight"}


def test_buffers_can_be_parametrized() -> None:
    neuron = LIF(tau=[2.0, 4.0])
    parametrized(neuron, "leaks", Halved())
    assert torch.equal(torch.as_tensor(neuron.leak), torch.tensor([0.25, 0.375], dtype=torch.float64))
    x = torch.tensor([0.9, 0.7, 0.7], dtype=torch.float64).view(3, 1, 1).expand(3, 1, 2)
    sent = Network(nn.Sequential(neuron)).run(x)[0][:, 0].T
    assert sent.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_delays() -> None:
    plain, other = SynapticDelay(4, init=[0.5, 1.5, 2.5, 3.5]), SynapticDelay(4)
    other.delay_logit = nn.Parameter(2 * plain.delay_logit.detach())
    parametrized(other, "delay_logit", Halved())
    found = []
    for delay in (plain, other):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 4), LIF(threshold=0.2), delay, LIF(threshold=0.5), nn.Linear(4, 3)).double()
        x, y = data()
        list(BPTT().updates(Network(module), x, y, PerStep(F.cross_entropy)))
        found.append(next(p.grad for p in delay.parameters()))
    assert found[0] is not None and found[1] is not None and found[0].any()
    torch.testing.assert_close(found[1], 0.5 * found[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", [DSRIF, DSRLIF])
def test_a_threshold_that_is_computed_is_kept_above_its_floor(kind: type[DSRIF | DSRLIF]) -> None:
    neuron = kind(threshold=0.3, floor=0.1)
    parametrized(neuron, "threshold", Scaled())
    with torch.no_grad():
        neuron.threshold = torch.tensor(-0.5)  # type: ignore[assignment]
    assert torch.as_tensor(neuron.reset_amount).item() == pytest.approx(0.1)
    neuron.project()
    assert torch.as_tensor(neuron.threshold).item() == pytest.approx(0.1)
    assert neuron.get_parameter("parametrizations.threshold.original").item() == pytest.approx(0.1 / 1.5)
    other = kind(threshold=0.3, floor=0.2)
    parametrized(other, "threshold", Halved())  # nothing can be assigned to it
    other.project()
    assert torch.as_tensor(other.reset_amount).item() == pytest.approx(0.2)


def test_rules_of_rates_train_such_a_threshold() -> None:
    module = network(CASES["threshold"])
    x, y = data()
    list(DSR().updates(Network(module), x[:1].expand(T, N, 5), y, OnRate(F.cross_entropy)))
    scale, original = (module.get_parameter(f"1.parametrizations.threshold.{n}") for n in ("0.scale", "original"))
    assert scale.grad is not None and original.grad is not None and scale.grad.any()
    torch.testing.assert_close(scale.grad * scale, original.grad * original)


def test_copies_and_removal() -> None:
    module = network(CASES["one leak"])
    x, _ = data()
    expected = Network(module).run(x)[0]
    assert torch.equal(Network(copy.deepcopy(module)).run(x)[0], expected)
    assert "learn_tau=True" in repr(module[1])  # type: ignore[index]
    remove_parametrizations(module[1], "leak_logit")  # type: ignore[index]
    assert torch.equal(Network(module).run(x)[0], expected)
