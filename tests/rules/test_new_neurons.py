"""Rules in networks with synaptic currents, moving thresholds, several spikes, potentials and integrators as readouts.

The programs here evaluate layer after layer over all steps, by the loops of `tests/oracles/neurons.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright import rules
from spikewright.errors import IncompatibleRule
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF, Neuron
from spikewright.reports._counted_run import count_run
from spikewright.reports.energy_estimate import energy
from spikewright.reports.gradient_check import certify
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, DSR, IDE, OTTT, SLTT, SPIDE, EProp, Rule
from spikewright.solvers import FixedPoint
from spikewright.spatial import DFA, DKP, FA, OPZO, ZO, SignSymmetric
from tests.oracles.neurons import CASES, INTEGRATORS, Case, Equations, looped

Params = dict[str, Tensor]
Taps = tuple[Any, ...]
T, N = 6, 3
SPACE = (6, 6)


class ReadPotential(nn.Module):
    """The loss is on a readout of the potential, and on one of the spikes."""

    def __init__(self, neuron: Neuron, maps: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 3, padding=1) if maps else nn.Linear(8, 3)
        self.n = neuron
        self.b, self.c = (nn.Linear(108 if maps else 3, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        spikes, potential = self.n(self.a(x))
        return self.b(spikes.flatten(1)) + self.c(potential.flatten(1))


class ReadIntegrator(nn.Module):
    """The output is the potential of leaky integrators behind neurons."""

    def __init__(self, neuron: Neuron, integrator: Neuron, maps: bool) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 3, 3, padding=1) if maps else nn.Linear(8, 3)
        self.n, self.b, self.r = neuron, nn.Linear(108 if maps else 3, 3), integrator

    def forward(self, x: Tensor) -> Tensor:
        return self.r(self.b(self.n(self.a(x)).flatten(1)))


def drawn(module: nn.Module, maps: bool) -> tuple[nn.Module, Tensor, Tensor]:
    source, module = torch.Generator().manual_seed(0), module.double()
    for name, p in module.named_parameters():
        if name.startswith(("a.", "b.", "c.")):
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64)
            p.data = 1.5 / p[0].numel() ** 0.5 * noise if p.dim() > 1 else 0.4 + 0.2 * noise
    feature = (2, *SPACE) if maps else (8,)
    x = 1.5 * torch.rand(T, N, *feature, generator=source, dtype=torch.float64)
    return module, x, torch.tensor([0, 2, 1])


def traced(x: Tensor, taps: Taps) -> Tensor:
    """Return the trace of an input by decays of the current and of the potential behind it."""
    alpha, leak = (float(torch.as_tensor(tap).detach()) for tap in (0.0, *taps)[-2:])
    current = trace = torch.zeros_like(x[0])
    rows = []
    for step in x:
        current = alpha * current + step
        trace = leak * trace + current
        rows.append(trace)
    return torch.stack(rows)


@dataclass(frozen=True)
class Way:
    """How a program goes back: through time, by traces, and by the sign of weights."""

    cut: bool = True
    by_traces: bool = False
    by_sign: bool = False


def transmit(x: Tensor, p: Params, name: str, taps: Taps, way: Way) -> Tensor:
    """Return what a layer sends, with the gradients of a rule."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    operation: Callable[..., Tensor] = F.linear if weight.dim() == 2 else lambda x, w: F.conv2d(x, w, padding=1)

    def run(x: Tensor, w: Tensor) -> Tensor:
        return operation(x.flatten(0, 1), w).unflatten(0, (T, N))

    factor, ones = x, torch.ones(T, dtype=torch.float64)
    if way.by_traces and taps:
        factor, ones = traced(x, taps), traced(ones, taps)
    back = weight.sign() / weight[0].numel() ** 0.5 if way.by_sign else weight
    down, of_weight = run(x, back.detach()), run(factor.detach(), weight)
    shift = bias.view(-1, *[1] * (weight.dim() - 2)) * ones.view(-1, *[1] * (weight.dim()))
    value = run(x, weight) + bias.view(-1, *[1] * (weight.dim() - 2))
    return value.detach() + sum(part - part.detach() for part in (down, of_weight, shift))


def taps_of(e: Equations) -> Taps:
    return (e.leak,) if e.alpha is None else (e.alpha, e.leak)


def gradients(module: nn.Module, x: Tensor, y: Tensor, way: Way, hidden: Case, last: Case | None, read: str) -> Params:
    """Return the gradient of the mean cross-entropy over steps, by a program."""
    p = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
    at = {key: {n.removeprefix(f"{key}."): v for n, v in p.items() if n.startswith(f"{key}.")} for key in ("n", "r")}
    e = hidden.equations(at["n"])
    spikes, before, after = looped(transmit(x, p, "a", taps_of(e), way), e, way.cut)
    sent = hidden.sends(spikes).flatten(2)
    if last is None:
        potential = (before if read == "before reset" else after).flatten(2)
        output = transmit(sent, p, "b", (), way) + transmit(potential, p, "c", (), way)
    else:
        f = last.equations(at["r"])
        output = looped(transmit(sent, p, "b", taps_of(f), way), f, way.cut)[2]
    loss = torch.stack([F.cross_entropy(o, y) for o in output]).mean()
    return dict(zip(p, torch.autograd.grad(loss, list(p.values()), materialize_grads=True)))


def learned(rule: Rule, module: nn.Module, x: Tensor, y: Tensor, loss: Any = PerStep) -> Params:
    net = Network(module)
    for _ in rule.updates(net, x, y, loss(F.cross_entropy)):
        pass
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}
    net.zero_grad()
    net.release()
    return found


def agree(found: Params, expected: Params, *, skip: tuple[str, ...] = ()) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if not name.startswith(skip):
            message = partial("{}: {}".format, name)
            torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=message)


HIDDEN = [name for name in CASES if "per channel" not in name]
"""Of which a trace is the same for all channels, or that are trained."""
WAYS: dict[str, tuple[Callable[[], Rule], Way]] = {
    "BPTT": (BPTT, Way(cut=False)),
    "BPTT in chunks": (lambda: BPTT(chunk=2), Way(cut=False)),
    "checkpointed": (lambda: BPTT(checkpoint=True), Way(cut=False)),
    "SLTT": (SLTT, Way()),
    "OTTT": (OTTT, Way(by_traces=True)),
    "OTTT online": (lambda: OTTT(online=True), Way(by_traces=True)),
    "by sign": (lambda: SLTT(spatial=SignSymmetric()), Way(by_sign=True)),
}
maps = pytest.mark.parametrize("maps", [False, True], ids=["mlp", "conv"])


def one_decay(case: Case, neuron: Neuron) -> bool:
    decays = neuron.dynamics.decay, neuron.dynamics.current_decay
    return all(d is None or torch.as_tensor(d).numel() == 1 for d in decays)


@maps
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_a_loss_on_the_potential(name: str, way: str, maps: bool) -> None:
    for read in ("before reset", "after reset"):
        neuron = CASES[name].make()
        neuron.potential = cast(Any, read)
        make, program = WAYS[way]
        if program.by_traces and not one_decay(CASES[name], neuron):
            return
        module, x, y = drawn(ReadPotential(neuron, maps), maps)
        expected = gradients(module, x, y, program, CASES[name], None, read)
        agree(learned(make(), module, x, y), expected)
        assert all(expected[f"{layer}.weight"].any() for layer in "abc")


@maps
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("last", INTEGRATORS)
@pytest.mark.parametrize("name", ["current, hard", "adaptive", "several", "learned"])
def test_gradients_with_an_integrator_as_readout(name: str, last: str, way: str, maps: bool) -> None:
    make, program = WAYS[way]
    if program.by_traces and not one_decay(INTEGRATORS[last], INTEGRATORS[last].make()):
        return
    module, x, y = drawn(ReadIntegrator(CASES[name].make(), INTEGRATORS[last].make(), maps), maps)
    expected = gradients(module, x, y, program, CASES[name], INTEGRATORS[last], "")
    agree(learned(make(), module, x, y), expected)
    assert expected["a.weight"].any() and expected["b.weight"].any()


@maps
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_e_prop_is_bptt_in_front_of_the_last_neurons(name: str, online: bool, maps: bool) -> None:
    """Of any kind, with a loss on spikes and potential."""
    neuron = CASES[name].make()
    neuron.potential = "after reset"
    module, x, y = drawn(ReadPotential(neuron, maps), maps)
    expected = gradients(module, x, y, Way(cut=False), CASES[name], None, "after reset")
    agree(learned(EProp(online=online), module, x, y), expected, skip=("n.",))


@pytest.mark.parametrize("last", ["integrator", "integrator, current", "integrator, lossless"])
@pytest.mark.parametrize("name", ["current", "current, hard, attached", "adaptive, moving", "several, hard", "bounded"])
def test_e_prop_is_bptt_behind_which_an_integrator_reads(name: str, last: str) -> None:
    module, x, y = drawn(ReadIntegrator(CASES[name].make(), INTEGRATORS[last].make(), False), False)
    expected = gradients(module, x, y, Way(cut=False), CASES[name], INTEGRATORS[last], "")
    agree(learned(EProp(), module, x, y), expected, skip=("n.",))


def test_direct_feedback_behind_which_an_integrator_reads() -> None:
    """The readout learns from its own error, and the neurons from a random map of it."""
    rule = SLTT(spatial=DFA())
    module, x, y = drawn(ReadIntegrator(CUBALIF(4.0, 3.0), LI(4.0), False), False)
    found = learned(rule, module, x, y)
    spatial = cast(DFA, rule.spatial)
    (matrix,) = (spatial.matrices[key] for key in spatial.matrices)
    p = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
    hidden, last = CASES["current"].equations({}), INTEGRATORS["integrator"].equations({})
    spikes = looped(transmit(x, p, "a", (), Way()), hidden, cut=True)[0]
    output = looped(transmit(spikes.detach(), p, "b", (), Way()), last, cut=True)[2]
    loss = torch.stack([F.cross_entropy(o, y) for o in output]).mean()
    (error,) = torch.autograd.grad(loss, output, retain_graph=True)
    signal = error @ (matrix.T if matrix.shape[0] == spikes.shape[-1] else matrix)
    total = loss + (spikes * signal).sum()
    agree(found, dict(zip(p, torch.autograd.grad(total, list(p.values())))))


ALL_RULES: dict[str, Callable[[], Rule]] = {
    **{name: make for name, (make, _) in WAYS.items()},
    "SLTT(k=2)": lambda: SLTT(k=2),
    "OTTT(reference)": lambda: OTTT(reference=True),
    "EProp": EProp,
    "EProp(symmetric)": lambda: EProp(feedback="symmetric"),
    "FA": lambda: OTTT(spatial=FA()),
    "HLOP": lambda: rules.HLOP(OTTT()),
    "GPM": lambda: rules.GPM(BPTT()),
    "EWC": lambda: rules.EWC(OTTT()),
    "LwF": lambda: rules.LwF(EProp()),
    "Naive": lambda: rules.Naive(SLTT()),
    "Replay": lambda: rules.Replay(SLTT()),
}
CUTTING: dict[str, Callable[[], Rule]] = {
    "DFA": lambda: OTTT(spatial=DFA()),
    "DKP": lambda: SLTT(spatial=DKP()),
    "ZO": lambda: OTTT(spatial=ZO()),
    "ZO(pre)": lambda: OTTT(spatial=ZO(position="pre")),
    "OPZO": rules.OPZO,
    "OPZO(pre)": lambda: SLTT(spatial=OPZO(position="pre")),
    "EProp(random)": lambda: EProp(feedback="random"),
}
RATES: dict[str, Callable[[], Rule]] = {
    "DSR": DSR,
    "DSR(reference)": lambda: DSR(reference=True),
    "IDE": IDE,
    "IDE(output)": lambda: IDE(mask="output"),
    "SPIDE": lambda: SPIDE(steps=40),
}
SOME: dict[str, Callable[[], Neuron]] = {
    "current": lambda: CUBALIF(4.0, 3.0),
    "adaptive": lambda: ALIF(4.0, 8.0, 0.5, moving_reset=True),
    "several": lambda: LIF(2.0, max_spikes=None),
    "learned": lambda: LIF(2.0, learn_threshold=True, learn_gain=True),
    "late": lambda: LIF(2.0, reset="late"),
    "bounded": lambda: LIF(2.0, lower_bound=-0.1),
}


def certified(rule: Rule, module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Every claim of a rule matches, and its reports can be made."""
    loss = (OnRate if rule.traits.loss == "rate" else PerStep)(F.cross_entropy)
    check = certify(Network(module), rule, x, y, loss)
    assert check.ok, check.table()
    net = Network(module)
    rows = plan(net, rule, x.shape, measure=(4, 8), report=()).rows
    assert all(row.saved_bytes > 0 for row in rows)
    if rule.traits.memory == "constant" and rule.chunk != "auto":
        assert len({row.saved_bytes for row in rows}) == 1
    assert energy(net, rule, x, y, loss).table()


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("rule", ALL_RULES)
def test_every_rule_keeps_its_claims_on_potentials(rule: str, name: str) -> None:
    neuron = SOME[name]()
    neuron.potential = "before reset"
    certified(ALL_RULES[rule](), *drawn(ReadPotential(neuron, name == "late"), name == "late"))


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("rule", {**ALL_RULES, **CUTTING})
def test_every_rule_keeps_its_claims_in_front_of_an_integrator(rule: str, name: str) -> None:
    make, maps = {**ALL_RULES, **CUTTING}[rule], name == "late"
    data = drawn(ReadIntegrator(SOME[name](), LI(3.0), maps), maps)
    if rule == "EProp(symmetric)":  # which has no readout whose weights say what a spike does
        with pytest.raises(IncompatibleRule, match="no readout's weights"):
            certified(make(), *data)
        return
    certified(make(), *data)


@pytest.mark.parametrize("rule", CUTTING)
@pytest.mark.parametrize("name", ["current", "several"])
def test_rules_that_cut_the_graph_refuse_potentials_that_layers_read(rule: str, name: str) -> None:
    neuron = SOME[name]()
    neuron.potential = "before reset"
    module, x, y = drawn(ReadPotential(neuron, False), False)
    with pytest.raises(IncompatibleRule, match=r"cuts the graph there, but 'n' returns its potential"):
        learned(CUTTING[rule](), module, x, y)


class Output(nn.Module):
    """The output is the potential itself, which no layer reads."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.a, self.m, self.b, self.n = nn.Linear(8, 12), LIF(), nn.Linear(12, 3), neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.n(self.b(self.m(self.a(x))))[1]


@pytest.mark.parametrize("rule", [name for name in (*ALL_RULES, *CUTTING) if name != "EProp(symmetric)"])
def test_every_rule_keeps_its_claims_with_the_potential_as_output(rule: str) -> None:
    certified({**ALL_RULES, **CUTTING}[rule](), *drawn(Output(CUBALIF(4.0, 3.0, potential="after reset")), False))


UNRATED: dict[str, tuple[Callable[[], Neuron], str]] = {
    "current": (CUBALIF, "is CUBALIF, with dynamics of its own and no rate map for them. Declare dynamics"),
    "adaptive": (ALIF, "is ALIF, with dynamics of its own and no rate map"),
    "hard": (lambda: LIF(reset="zero"), "has a hard reset"),
    "bounded": (lambda: LIF(lower_bound=-1.0), "potential has a lower bound.* Use lower_bound=None"),
    "bounded, several": (lambda: IF(lower_bound=0.0, max_spikes=None), "potential has a lower bound"),
}


@pytest.mark.parametrize("rule", RATES)
@pytest.mark.parametrize("name", UNRATED)
def test_rules_of_rates_refuse_what_has_no_rate_map(name: str, rule: str) -> None:
    make, message = UNRATED[name]
    module, x, y = drawn(nn.Sequential(nn.Linear(8, 3), make(), nn.Linear(3, 4)), False)
    with pytest.raises(IncompatibleRule, match=f"'1' .*{message}|'1' {message}"):
        learned(RATES[rule](), module, x[:1].expand(T, N, 8), y, OnRate)


@pytest.mark.parametrize("rule", RATES)
def test_rules_of_rates_refuse_potentials(rule: str) -> None:
    module, x, y = drawn(ReadPotential(LIF(potential="before reset"), False), False)
    with pytest.raises(IncompatibleRule, match=r"'n' is LIF, which returns its potential.* Use potential=None"):
        learned(RATES[rule](), module, x[:1].expand(T, N, 8), y, OnRate)


def weighted_mean(x: Tensor, leak: float) -> Tensor:
    weights = leak ** torch.arange(len(x) - 1, -1, -1, dtype=torch.float64)
    return torch.einsum("t,t...->...", weights, x) / weights.sum()


RATED: dict[str, tuple[Callable[[], Neuron], Equations]] = {
    "several": (lambda: IF(threshold=0.5, max_spikes=None), replace(CASES["several"].equations({}), leak=1.0)),
    "at most two": (lambda: LIF(4.0, max_spikes=2), Equations(leak=0.75, most=2)),
    "late": (lambda: LIF(4.0, reset="late"), Equations(leak=0.75, r=1 / 0.75)),
    "per channel": (
        lambda: IF([0.5, 1.0, 1.5], gain=[0.5, 1.0, 2.0]),
        Equations(v_th=(t := torch.tensor([0.5, 1, 1.5]).double()), r=t, k=torch.tensor([0.5, 1, 2]).double()),
    ),
    "tied": (lambda: LIF(4.0, 0.25, gain="1/tau"), Equations(leak=0.75, k=0.25, v_th=0.25, r=0.25)),
    "strict": (lambda: LIF(2.0, strict=True), Equations(leak=0.5, strict=True)),
}


@pytest.mark.parametrize("behind", ["linear", "integrator"])
@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize("rule", ["DSR", "IDE", "IDE(output)", "SPIDE"])
def test_rules_of_rates_differentiate_the_rate_map(rule: str, name: str, behind: str) -> None:
    """Explicit: the map of mean currents, with the values that a simulation recorded in its place."""
    make, e = RATED[name]
    last = nn.Identity() if behind == "linear" else LI(4.0)
    module, x, y = drawn(nn.Sequential(nn.Linear(8, 3), make(), nn.Linear(3, 3), last), False)
    for key, name_of in (("0", "a"), ("2", "b")):  # the same draws as elsewhere
        source = torch.Generator().manual_seed(ord(name_of))
        layer = cast(nn.Linear, module.get_submodule(key))
        layer.weight.data = torch.randn(layer.weight.shape, generator=source, dtype=torch.float64) / 2
        layer.bias.data.fill_(0.6)
    x = x[:1].expand(40, N, 8)
    made: dict[str, Rule] = {
        "DSR": DSR(),
        "IDE": IDE(FixedPoint(200)),
        "IDE(output)": IDE(FixedPoint(200), mask="output"),
        "SPIDE": SPIDE(steps=8000, loss_scale=0.2),
    }
    found = learned(made[rule], module, x, y, OnRate)

    p = {n: v.detach().clone().requires_grad_() for n, v in module.named_parameters()}
    current = F.linear(x, p["0.weight"], p["0.bias"])
    spikes = looped(current.detach(), e)[0]
    recorded, share = weighted_mean(spikes, cast(float, e.leak)), e.k * current[0] / e.r
    if rule in ("DSR", "IDE"):
        share = share.clamp(0, e.most)
    else:
        share = torch.where((recorded > 0) & (recorded < e.most * (1 - 1e-12)), share, share.detach())
    sent = share - share.detach() + recorded
    output = F.linear(sent, p["2.weight"], p["2.bias"])
    if behind == "integrator":
        steps = F.linear(spikes, p["2.weight"], p["2.bias"]).detach()
        value = weighted_mean(looped(steps, Equations(leak=0.75, fires=False))[2], 0.75)
        output = 4 * output - (4 * output).detach() + value
        if e.leak != 0.75:
            return  # the mean of the readout has weights of its own
    expected = dict(zip(p, torch.autograd.grad(F.cross_entropy(output, y), list(p.values()))))
    assert expected["0.weight"].any() or "output" in rule or rule == "SPIDE"
    for key, value in expected.items():
        tolerance = 5e-2 if rule == "SPIDE" else 1e-9
        assert float((found[key] - value).norm()) <= tolerance * float(value.norm()), key


def test_energy_knows_potentials_from_spikes() -> None:
    """A layer that reads a potential multiplies; one that reads several spikes adds as often as there are."""
    module, x, _ = drawn(ReadPotential(IF(max_spikes=None, potential="before reset"), False), False)
    x = 4 * x
    counted = count_run(Network(module), x, ())
    spikes = looped(x @ module.a.weight.T + module.a.bias, CASES["several, attached"].equations({}))[0]
    assert counted.work["b"].spiking and not counted.work["c"].spiking
    assert spikes.max() > 1
    assert counted.work["b"].additions == pytest.approx(4 * spikes.sum().item() / (T * N))
    assert counted.rates == pytest.approx({"n": spikes.mean().item()}, rel=1e-6)


def test_energy_takes_no_integrator_for_spikes() -> None:
    """Also where what it sends are whole numbers of one size."""
    module = nn.Sequential(nn.Linear(8, 3), LI(None), nn.Linear(3, 4)).double()
    with torch.no_grad():
        module[0].weight.copy_(torch.arange(1.0, 4.0)[:, None].expand(3, 8))
        module[0].bias.zero_()
    counted = count_run(Network(module), torch.arange(1.0, 17.0).double().view(2, 1, 8), ())
    assert not counted.work["2"].spiking and not counted.rates
