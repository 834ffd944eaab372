"""One leak in a tensor of any shape is one number, for every rule."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, DSR, HLOP, IDE, OTTT, SLTT, SPIDE, Rule
from spikewright.rules._rate_checks import leak_at_input
from tests.core.support import lively
from tests.nets import sample
from tests.rules.support import gradients, loss_for

RULES: list[Callable[[], Rule]] = [
    BPTT,
    partial(BPTT, chunk=2, checkpoint=True),
    SLTT,
    OTTT,
    partial(OTTT, reference=True),
    partial(OTTT, trace_readout=True, chunk=None),
    DSR,
    IDE,
    partial(SPIDE, steps=20, loss_scale=2.0),
    partial(SPIDE, steps=20, loss_scale=2.0, leaky=True),
    lambda: HLOP(OTTT()),
]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda make: repr(make()).partition(", solver")[0])


class OneInAnyShape(LIF):
    """A neuron of somebody else's, whose leak is a tensor."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(2.5)
        self.shape = shape

    @property
    def leak(self) -> Tensor:
        return torch.full(self.shape, 0.6)


def conv(neuron: Callable[[], nn.Module]) -> nn.Module:
    first = [nn.Conv2d(2, 6, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Conv2d(6, 6, 3), neuron()]
    return lively(nn.Sequential(*first, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4)))


def dense(neuron: Callable[[], nn.Module]) -> nn.Module:
    return lively(nn.Sequential(nn.Linear(8, 12), neuron(), nn.Linear(12, 10), neuron(), nn.Linear(10, 4)))


NETS: dict[str, Callable[..., nn.Module]] = {"mlp": dense, "conv": conv}
FORMS: dict[str, Callable[[], nn.Module]] = {
    "list": lambda: LIF([2.5]),
    "tensor": lambda: LIF(torch.full((1, 1), 2.5)),
    "of another class": lambda: OneInAnyShape((1,)),
    "of another class with axes": lambda: OneInAnyShape((1, 1, 1)),
    "of another class without": lambda: OneInAnyShape(()),
}


@every_rule
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_one_leak_in_a_tensor_is_a_number(rule: Callable[[], Rule], form: str, name: str) -> None:
    data: Any = sample(name, 0)
    expected, found = (gradients(rule(), NETS[name](neuron), *data) for neuron in (lambda: LIF(2.5), FORMS[form]))
    assert expected.keys() == found.keys() and any(grad.any() for grad in found.values())
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-9, atol=1e-12)


@every_rule
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_a_learned_leak_of_any_shape_is_one_number(rule: Callable[[], Rule], shape: tuple[int, ...]) -> None:
    def net(tau: Tensor) -> nn.Module:
        module = conv(partial(LIF, tau, learn_tau=True))
        for neuron in module.modules():
            if isinstance(neuron, LIF):
                neuron.leak_logit.data = torch.log(tau - 1)
        return module

    data: Any = sample("conv", 0)
    taus = torch.full((), 2.5), torch.full(shape, 2.5)
    expected, found = (gradients(rule(), net(tau), *data) for tau in taus)
    assert any(grad.any() for grad in found.values())
    for key, grad in expected.items():
        torch.testing.assert_close(found[key].reshape(grad.shape), grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("leak", [0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]])], ids=str)
def test_a_named_leak_may_be_a_tensor(leak: Any) -> None:
    x, y = sample("mlp", 0)
    expected = gradients(OTTT(leak=0.5), dense(LIF), x, y)
    found = gradients(OTTT(leak=leak), dense(LIF), x, y)
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, rtol=1e-9, atol=1e-12)


def test_the_reference_of_dsr_takes_it() -> None:
    x, y = sample("mlp", 0)
    found = [gradients(DSR(reference=True), dense(partial(LIF, tau)), x, y) for tau in (2.5, [2.5])]
    for key, grad in found[0].items():
        assert torch.equal(found[1][key], grad)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_promised_is_kept(form: str) -> None:
    for rule in (OTTT(), SLTT(), DSR()):
        found = certify(Network(dense(FORMS[form])), rule, *sample("mlp", 0), loss_for(rule))
        assert found.ok, found.table()
        if isinstance(rule, OTTT):
            assert [row.site for row in found.rows if row.exact] == ["2.weight", "2.bias", "4.weight", "4.bias"]


@pytest.mark.parametrize("tau", [3.0, [3.0]], ids=["number", "list"])
def test_a_leak_is_known_in_double_precision(tau: Any) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # in which torch reads a number
    try:
        check_leak(tau)
    finally:
        torch.set_default_dtype(before)


def check_leak(tau: Any) -> None:
    x = torch.rand(6, 2, 4, dtype=torch.float64)
    net = Network(nn.Sequential(nn.Linear(4, 6), LIF(tau), nn.Linear(6, 3)).double())
    assert leak_at_input("DSR", net.wiring(x), x) == 1 - 1 / 3
