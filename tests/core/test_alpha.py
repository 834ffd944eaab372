"""Neurons with an alpha-shaped response: their dynamics, their gradients, and the rules they work with."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import AlphaLIF
from spikewright.rules import BPTT, DSR, IDE, OTTT, SLTT, EProp, Rule
from spikewright.surrogate import Sigmoid
from tests.catalogue import RULES, Entry
from tests.core.support import certificate, lively, promised
from tests.nets import mlp, sample
from tests.oracles import bptt, sltt
from tests.oracles.compare import assert_agree
from tests.oracles.delay import alpha, epsilon
from tests.oracles.draw import weights
from tests.oracles.machine import Machine, Params
from tests.rules.support import collected, learn, names, started


def run(neuron: AlphaLIF, x: list[float]) -> list[float]:
    return Network(nn.Sequential(neuron)).run(torch.tensor(x).view(-1, 1, 1))[0].flatten().tolist()


def potential(neuron: AlphaLIF, x: Tensor) -> Tensor:
    """The potential after every step `[time]` for a current `[time]`."""
    state, found = None, []
    for step in x.view(-1, 1, 1, 1):
        _, state = Network(nn.Sequential(neuron)).run(step, state)
        found.append(state["0"]["membrane"].squeeze())
    return torch.stack(found)


@pytest.mark.parametrize("tau", [1.5, 4.0])
def test_the_response_to_one_input_and_to_several(tau: float) -> None:
    response = torch.tensor([epsilon(k, tau) for k in range(10)])
    quiet = AlphaLIF(tau=tau, threshold=1e9)
    torch.testing.assert_close(potential(quiet, torch.eye(10)[0]), response, rtol=1e-13, atol=0)
    x = torch.randn(10)
    summed = torch.stack([(x[: t + 1] * response[: t + 1].flip(0)).sum() for t in range(10)])
    torch.testing.assert_close(potential(quiet, x), summed, rtol=1e-12, atol=1e-13)


def test_how_much_input_it_takes_to_fire_after_some_steps() -> None:
    """At least threshold / response: 2.943 at once, then 1.890, 1.617, 1.558, and with less never."""
    needed = [2 / epsilon(k, 4.0) for k in range(4)]
    assert needed == pytest.approx([2.943, 1.890, 1.617, 1.558], abs=1e-3)
    for after, least in enumerate(needed):
        assert run(AlphaLIF(), [least * (1 + 1e-9), *[0.0] * 9]).index(1.0) == after
        earlier = run(AlphaLIF(), [least * (1 - 1e-9), *[0.0] * 9])
        assert 1.0 not in earlier[: after + 1] and (after < 3) == (1.0 in earlier)


def test_fires_at_equality() -> None:
    assert run(AlphaLIF(tau=math.e, threshold=1.0), [1.0, 0.0]) == [1.0, 0.0]


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_spike_resets_the_potential_and_not_the_current(reset: str) -> None:
    neuron = AlphaLIF(tau=4.0, threshold=2.0, reset=reset)  # type: ignore[arg-type]
    _, state = Network(nn.Sequential(neuron)).run(torch.tensor([3.2, 0.0]).view(2, 1, 1))
    rho, charge = math.exp(-1 / 4), math.e / 4 * 3.2
    assert charge >= 2
    rest = 0.0 if reset == "zero" else charge - 2
    assert state["0"]["current"].item() == pytest.approx(rho * charge, rel=1e-14)
    assert state["0"]["membrane"].item() == pytest.approx(rho * rest + rho * charge, rel=1e-14)


def program(x: Tensor, net: Machine, hard: bool = True, tau: float = 3.0, threshold: float = 1.5) -> Tensor:
    s = alpha(net, "1", net.syn("0", x), tau, threshold, hard)
    s = alpha(net, "3", net.syn("2", s), 4.0, threshold, hard)
    return net.syn("4", s)


def module(hard: bool = True, **options: bool) -> nn.Module:
    make = partial(AlphaLIF, threshold=1.5, reset="zero" if hard else "subtract", **options)  # type: ignore[arg-type]
    net = mlp(make(tau=3.0), make(tau=4.0)).double()
    net.load_state_dict(weights("mlp", 0))
    return net


ORACLES: list[tuple[Callable[..., Rule], Callable[..., Params]]] = [(BPTT, bptt.gradients), (SLTT, sltt.gradients)]


@pytest.mark.parametrize("make, oracle", ORACLES, ids=["BPTT", "SLTT"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_gradients_are_those_of_an_explicit_program(
    make: Callable[..., Rule], oracle: Callable[..., Params], hard: bool, chunk: int | None
) -> None:
    net, (x, y) = module(hard), sample("mlp", 0)
    (update,) = learn(make(chunk=chunk), net, x, y)
    assert all(0.05 < rate < 0.95 for rate in update.rates.values()), update.rates
    assert_agree(collected(net), oracle(partial(program, hard=hard), weights("mlp", 0), x, y, F.cross_entropy), 1e-11)


def test_a_detached_reset_is_no_part_of_the_gradient() -> None:
    """Derivative of the second spike by the first current: through current, potential and reset."""
    rho, gain, steep = math.exp(-1 / 4), math.e / 4, Sigmoid(4.0).slope
    for detached in (False, True):
        x = torch.tensor([3.2, 0.8]).view(2, 1, 1).requires_grad_()
        spikes, _ = Network(nn.Sequential(AlphaLIF(detach_reset=detached))).run(x)
        (grad,) = torch.autograd.grad(spikes[1].sum(), x)
        first = gain * 3.2
        second = rho * first + gain * 0.8  # the first has fired
        through_rest = 0.0 if detached else -first * steep(torch.tensor(first - 2)).item()
        expected = steep(torch.tensor(second - 2)).item() * gain * (rho + rho * through_rest)
        assert grad[0].item() == pytest.approx(expected, rel=1e-12)


def test_without_time_only_the_same_step_has_a_gradient() -> None:
    x = torch.full((3, 1, 1), 1.2, requires_grad=True)
    spikes, state = AlphaLIF().scan(x, {}, through_time=False)
    (grad,) = torch.autograd.grad(spikes[2].sum(), x)
    assert grad[:2].any().item() is False and grad[2].item() > 0
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_keeps_the_dtype_of_the_current(dtype: torch.dtype) -> None:
    x = (2 * torch.rand(9, 2, 3)).to(dtype).requires_grad_()
    spikes, state = Network(nn.Sequential(AlphaLIF())).run(x)
    assert spikes.dtype == dtype and set(spikes.unique().tolist()) == {0.0, 1.0}
    assert {value.dtype for value in state["0"].values()} == {torch.float32}
    spikes.sum().backward()
    assert x.grad is not None and x.grad.dtype == dtype and x.grad.any()


def test_its_spikes_are_known_to_be_binary() -> None:
    class Own(AlphaLIF):
        def scan(self, *given: object) -> object:  # type: ignore[override]
            return super().scan(*given)  # type: ignore[arg-type]

    class Leaky(Sigmoid):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) + 0.1

    assert [AlphaLIF().binary, Own().binary, AlphaLIF(surrogate=Leaky()).binary] == [True, False, False]


@pytest.mark.parametrize("entry", RULES, ids=names())
def test_every_rule_learns_with_it_or_says_why_not(entry: Entry) -> None:
    (x, y), soft = sample("mlp", 0), lively(mlp(AlphaLIF(reset="subtract"), AlphaLIF(reset="subtract")))
    if entry.rates:
        with pytest.raises(IncompatibleRule, match="'1' is AlphaLIF, with dynamics of its own and no rate map"):
            learn(entry.make(), soft, x, y)
    else:
        learn(entry.make(), soft, x, y)
        assert all(grad.any() for grad in collected(soft).values())


@pytest.mark.parametrize("rule", [DSR(), IDE()], ids=repr)
def test_rates_refuse_its_hard_reset_first(rule: Rule) -> None:
    with pytest.raises(IncompatibleRule, match="'1' has a hard reset"):
        learn(rule, module(), *sample("mlp", 0))


def test_promises() -> None:
    for rule, expected in {
        BPTT(): set(weights("mlp", 0)),
        SLTT(): {"4.weight", "4.bias"},
        OTTT(leak=0.7): {"4.weight", "4.bias"},
        OTTT(): {"2.weight", "2.bias", "4.weight", "4.bias"},
        OTTT(chunk=4): {"2.weight", "2.bias", "4.weight", "4.bias"},
        EProp(): {"2.weight", "2.bias", "4.weight", "4.bias"},
    }.items():
        found = certificate(module(False, detach_reset=True), rule)
        assert found.ok, found.table()
        assert promised(found) == expected


@pytest.mark.parametrize("options", [{"hard": True}, {"hard": False}, {"hard": False, "detach_reset": True}], ids=str)
def test_promises_of_rules_with_traces_for_any_reset(options: dict[str, bool]) -> None:
    for rule in (OTTT(), EProp()):
        found = certificate(module(**options), rule)
        assert found.ok, found.table()
        exact = isinstance(rule, EProp) or "detach_reset" in options
        assert promised(found) == ({"2.weight", "2.bias"} if exact else set()) | {"4.weight", "4.bias"}


@pytest.mark.parametrize("chunk", [1, 3, None])
def test_the_trace_in_front_of_it_has_its_response(chunk: int | None) -> None:
    x, net = torch.randn(9, 2, 8, dtype=torch.float64), Network(nn.Sequential(nn.Linear(8, 3), AlphaLIF(4.0)).double())
    run = started(OTTT(), net, x)
    for piece in x.split(chunk or len(x)):
        run.advance(piece)
    worth = torch.tensor([epsilon(k, 4.0) / epsilon(0, 4.0) for k in range(9)], dtype=torch.float64).flip(0)
    torch.testing.assert_close(run.state["0"]["trace"], torch.einsum("t,tni->ni", worth, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run.state["0"]["bias_trace"], worth.sum(), rtol=1e-12, atol=0)


def test_settings_are_checked_and_shown() -> None:
    for tau in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match=rf"AlphaLIF\(tau={tau}\): .* tau a positive number"):
            AlphaLIF(tau=tau)
    shown = "AlphaLIF(tau=4, threshold=2, reset='zero', surrogate=Sigmoid(alpha=4.0))"
    assert repr(AlphaLIF(inplace=True)) == shown
