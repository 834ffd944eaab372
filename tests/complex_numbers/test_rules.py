"""Every rule learns complex weights as it learns the real numbers that they are made of, or says that it does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, InputError, NetworkError
from spikewright.layers import Feedback
from spikewright.layers.delay import SynapticDelay
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, DSR, EWC, GPM, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, LwF, Replay, Rule
from spikewright.spatial import DFA, DKP, FA, ZO, Local, SignSymmetric
from tests.complex_numbers.support import (
    CE,
    CLASSES,
    INPUTS,
    RATE,
    READ,
    WIDTH,
    C,
    Made,
    Twins,
    as_twin,
    data,
    deep,
    drawn,
    read,
    turned,
)
from tests.rules.support import collected, gradients

Make = Callable[[], Any]
OF_STEPS: dict[str, Make] = {
    "BPTT": BPTT,
    "BPTT(chunk=2)": lambda: BPTT(chunk=2),
    "BPTT(checkpoint)": lambda: BPTT(checkpoint=True),
    "SLTT": SLTT,
    "SLTT(k=2)": lambda: SLTT(k=2),
    "OTTT": OTTT,
    "OTTT(reference)": lambda: OTTT(reference=True),
    "OTTT(online)": lambda: OTTT(online=True),
    "OTTT(trace_bias=False)": lambda: OTTT(trace_bias=False),
    "FA": lambda: OTTT(spatial=FA()),
    "SignSymmetric": lambda: SLTT(spatial=SignSymmetric()),
    "DFA": lambda: OTTT(spatial=DFA()),
    "DKP": lambda: OTTT(spatial=DKP()),
    "ZO": lambda: OTTT(spatial=ZO()),
    "OPZO": OPZO,
    "Local": lambda: OTTT(local=Local()),
    "EWC": lambda: EWC(OTTT()),
    "LwF": lambda: LwF(OTTT()),
    "Replay": lambda: Replay(OTTT()),
}
OF_RATES: dict[str, Make] = {"DSR": DSR, "IDE": IDE, "SPIDE": lambda: SPIDE(steps=20)}


def learned(rule: Any, module: nn.Module, x: Tensor, y: Tensor, loss: Any, tasks: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(3)
    net = Network(module)
    rule.prepare(net, x)
    if tasks > 1:
        rule.next_task(net, x, y, loss)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1)
        rule.freeze(net)
    return gradients(rule, module, x, y, loss)


@pytest.mark.parametrize("name", [*OF_STEPS, *OF_RATES])
def test_complex_weights_learn_as_real_ones(name: str) -> None:
    twins, loss = Twins(leaky=name in OF_STEPS), CE if name in OF_STEPS else RATE
    make = {**OF_STEPS, **OF_RATES}[name]
    found = learned(make(), twins.own, twins.x, twins.y, loss)
    expected = learned(make(), twins.twin, twins.x_twin, twins.y, loss)
    for parameter, gradient in found.items():
        torch.testing.assert_close(as_twin(gradient), expected[parameter])
        assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("name", ["EWC", "LwF", "Replay"])
def test_complex_weights_remember_as_real_ones(name: str) -> None:
    twins = Twins(leaky=True)
    options: dict[str, Any] = {} if name == "Replay" else {"hold": False}
    kind = {"EWC": EWC, "LwF": LwF, "Replay": Replay}[name]
    found = learned(kind(SLTT(), **options), twins.own, twins.x, twins.y, CE, tasks=2)
    expected = learned(kind(SLTT(), **options), twins.twin, twins.x_twin, twins.y, CE, tasks=2)
    for parameter, gradient in found.items():
        if name == "EWC" and gradient.is_complex():  # the spring of a complex weight is one, of both its parts
            continue
        torch.testing.assert_close(as_twin(gradient), expected[parameter])


def test_springs_of_complex_weights_are_as_stiff_as_their_gradients_are_long() -> None:
    module = deep("abs").module
    net, rule, (x, y) = Network(module), EWC(SLTT(), strength=3.0, hold=False), data()
    squares = [gradients(SLTT(), module, x[:, n : n + 1], y[n : n + 1], CE) for n in range(len(y))]
    left = {name: p.detach().clone() for name, p in module.named_parameters()}
    rule.next_task(net, x, y, CE)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    plain, found = gradients(SLTT(), module, x, y, CE), gradients(rule, module, x, y, CE)
    for name, p in module.named_parameters():
        force = torch.stack([s[name].abs() ** 2 for s in squares]).mean(0)
        torch.testing.assert_close(found[name], plain[name] + 3.0 * force * (p.detach() - left[name]))


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("name", ["BPTT(chunk=2)", "BPTT(checkpoint)", "SLTT", "OTTT", "FA", "SignSymmetric", "DFA"])
def test_promises_are_kept(name: str, kind: str) -> None:
    found = certify(deep(kind), OF_STEPS[name](), *data(), CE)
    assert found.ok, found.table()
    claimed = {row.site for row in found.rows if row.exact and not row.vanishing}
    assert claimed >= {"9.weight", "9.bias"}
    if name == "OTTT" and kind != "abs":
        assert claimed >= {"3.weight", "3.bias", "4.weight", "4.bias"}


@pytest.mark.parametrize("name", ["BPTT", "SLTT", "OTTT"])
def test_convolutions(name: str) -> None:
    layers = [
        Made(lambda x: torch.fft.fft(x, norm="ortho").view(-1, 2, 2)),
        nn.Conv1d(2, 4, 3, padding=1, dtype=C),
        Made(lambda z: z.view(-1, 4, 2, 1)),
        nn.Conv2d(4, 4, 1, groups=2, dtype=C),
    ]
    net = Network(drawn(nn.Sequential(*layers, read("real"), nn.Flatten(), LIF(), nn.Linear(8, CLASSES))))
    found = certify(net, OF_STEPS[name](), *data(), CE)
    assert found.ok, found.table()
    assert name == "SLTT" or {row.site for row in found.rows if row.exact} >= {"1.weight", "3.weight", "3.bias"}


CARRYING: dict[str, Callable[[], list[nn.Module]]] = {
    "delay": lambda: [SynapticDelay(WIDTH, init=1.3)],
    "shared delay": lambda: [SynapticDelay(WIDTH, init=1.3, rounding=False)],
    "feedback": lambda: [Feedback(nn.Linear(WIDTH, WIDTH, dtype=C), "1")],
}


@pytest.mark.parametrize("chunked", [lambda: BPTT(chunk=2), lambda: BPTT(checkpoint=True)])
@pytest.mark.parametrize("kind", CARRYING)
def test_chunks_carry_gradients_of_complex_states(kind: str, chunked: Make) -> None:
    parts = [turned(), nn.Linear(INPUTS, WIDTH, dtype=C), *CARRYING[kind](), read("imag"), LIF()]
    net = Network(drawn(nn.Sequential(*parts, nn.Linear(WIDTH, CLASSES))))
    x, y = data()
    found, expected = gradients(chunked(), net.module, x, y, CE), gradients(BPTT(), net.module, x, y, CE)
    torch.testing.assert_close(found, expected)


def of_output(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.abs(), y)


def complex_output() -> nn.Module:
    return drawn(nn.Sequential(nn.Linear(INPUTS, WIDTH), LIF(), turned(), nn.Linear(WIDTH, CLASSES, dtype=C)))


@pytest.mark.parametrize("name", ["BPTT(chunk=2)", "OTTT", "FA", "SignSymmetric", "ZO", "EWC", "Replay"])
def test_outputs_may_be_complex(name: str) -> None:
    module, (x, y) = complex_output(), data()
    found = gradients(OF_STEPS[name](), module, x, y, PerStep(of_output))
    if name not in ("ZO", "FA", "SignSymmetric"):
        expected = gradients(BPTT(), module, x, y, PerStep(of_output))
        torch.testing.assert_close(found["3.weight"], expected["3.weight"])


def test_the_mean_of_complex_outputs_may_leak() -> None:
    output = torch.randn(3, 2, 2, dtype=C)
    loss = OnRate(of_output, leak=0.5)
    torch.testing.assert_close(loss.mean(output), (output[0] + 2 * output[1] + 4 * output[2]) / 7)


REFUSED: dict[str, tuple[Make, str]] = {
    "DFA": (lambda: OTTT(spatial=DFA()), "DFA brings errors to layers by real matrices, but the output .* is complex"),
    "DKP": (lambda: OTTT(spatial=DKP()), "DKP brings errors"),
    "OPZO": (OPZO, "OPZO brings errors"),
    "penultimate": (lambda: OPZO(route="penultimate"), "what arrives at the readout is complex"),
    "Local": (lambda: SLTT(local=Local()), "Local teaches layers by readouts .* is complex"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_complex_outputs_are_refused_by_what_has_real_numbers_for_them(name: str) -> None:
    module, (x, y) = complex_output(), data()
    make, message = REFUSED[name]
    rule = make()
    rule.prepare(Network(module), x)
    with pytest.raises(IncompatibleRule, match=message):
        gradients(rule, module, x, y, PerStep(of_output))
    assert all(p.grad is None for p in module.parameters())


def test_outputs_that_are_distilled_are_real() -> None:
    module, (x, y) = complex_output(), data()
    with pytest.raises(IncompatibleRule, match=r"LwF distils outputs by their softmax, but .* is complex"):
        learned(LwF(SLTT()), module, x, y, PerStep(of_output), tasks=2)


@pytest.mark.parametrize("make", [lambda **free: HLOP(BPTT(), rows=2, **free), lambda **free: GPM(OTTT(), **free)])
def test_directions_of_complex_inputs_are_not_protected(make: Callable[..., Rule]) -> None:
    net, (x, y) = deep("real"), data()
    with pytest.raises(IncompatibleRule, match=r"the weight of '3' is complex .*free=\('3',\)"):
        certify(net, make(), x, y, CE)
    assert certify(net, make(free=("3", "4", "8", "9")), x, y, CE).ok


class Cast(nn.Linear):
    """A layer whose real weight meets complex numbers."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.to(C), self.weight.to(C), self.bias.to(C))


def test_directions_of_complex_inputs_of_real_weights_are_not_protected() -> None:
    module = drawn(nn.Sequential(Made(lambda x: x * (1 + 1j)), Cast(INPUTS, WIDTH), read("real"), IF()))
    net, rule, (x, y) = Network(module), GPM(DSR()), data()
    assert certify(net, OTTT(), x, y, CE).ok
    rule.prepare(net, x)
    with pytest.raises(IncompatibleRule, match="what arrives at a layer that it protects is complex"):
        rule.next_task(net, x, y, RATE)


@pytest.mark.parametrize("make", [IDE, SPIDE])
def test_rates_that_are_sent_back_are_real(make: Make) -> None:
    back = nn.Sequential(turned(), nn.Linear(WIDTH, WIDTH, dtype=C))
    parts = [nn.Linear(INPUTS, WIDTH), Feedback(read("real"), "3"), IF(), back, read("real")]
    module = drawn(nn.Sequential(*parts, nn.Linear(WIDTH, CLASSES)), 0.3)
    with pytest.raises(IncompatibleRule, match=f"{make.__name__} solves an equation .* what '1' sends back is complex"):
        gradients(make(), module, *data(), RATE)


def test_neurons_that_are_given_complex_currents_say_so() -> None:
    net = Network(nn.Sequential(turned(), nn.Linear(INPUTS, WIDTH, dtype=C), LIF()))
    with pytest.raises(NetworkError, match=r"'2' \(LIF\) was given complex numbers.*z.real"):
        net.run(data()[0])


def test_complex_inputs_that_are_not_finite_are_refused() -> None:
    twins = Twins(leaky=True)
    twins.x[1, 0, 2] = complex(0, float("inf"))
    with pytest.raises(InputError, match=r"not finite, at \[1, 0, 2\]"):
        gradients(BPTT(), twins.own, twins.x, twins.y, CE)
    assert all(not g.any() for g in collected(twins.own).values())
