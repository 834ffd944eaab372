"""Rates: the exact identities, the gradient without feedback, and the gradient of a fixed point."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles import hand, rate
from tests.oracles.compare import assert_agree, case
from tests.oracles.draw import sample, weights
from tests.oracles.equilibrium import RateMap, equilibrium, finite_difference
from tests.oracles.loops import clearance, distance, loop, order, settled
from tests.oracles.machine import Machine, Params
from tests.oracles.programs import PROGRAMS
from tests.oracles.rate_machine import Cell, Layer, Mask, RateMachine

pytestmark = pytest.mark.timeout(30)
CE = F.cross_entropy
ODD = Cell(reset_amount=1.25, fraction=0.6, gain=0.75, amplitude=1.5)
SOFT = [name for name in PROGRAMS if name != "hard_reset"]


def neurons(x: Tensor, net: Machine, tau: float = math.inf) -> Tensor:
    return net.lif("1", x, tau)


def two_readers(x: Tensor, net: Machine) -> Tensor:
    return net.lif("1", net.syn("0", x, post="1"), 2.0) + net.lif("2", net.syn("0", x, post="2"), 5.0)


def alone(x: Tensor, cell: Cell, tau: float = math.inf) -> Layer:
    """What neurons do with the currents `[time, ...]` themselves."""
    return RateMachine({}, {"1": cell}).simulate(partial(neurons, tau=tau), x, entry="1")[1]["1"]


def total(steps: int, leak: float) -> float:
    return sum(leak**age for age in range(steps))


@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_a_constant_current_is_rounded_to_a_count(fraction: float, steps: int) -> None:
    x = 4 * torch.rand(500, dtype=torch.float64) - 1
    layer = alone(x.expand(steps, -1), Cell(reset_amount=1.75, fraction=fraction, amplitude=1.75))
    count = (steps * x / 1.75 + 1 - fraction).floor().clamp(0, steps)
    assert torch.equal(layer.spikes.sum(0), count)
    error = (layer.output - x.clamp(0, 1.75)).abs().max()
    assert 0.9 < error * steps / 1.75 / max(fraction, 1 - fraction) <= 1 + 1e-9


@pytest.mark.parametrize("fraction", [1.0, 0.3])
def test_the_error_of_a_leaky_rate_is_bounded(fraction: float) -> None:
    threshold, dt, steps = 0.3, 0.05, 20
    leak = math.exp(-dt)
    x = threshold / (1 - leak) * torch.rand(2000, dtype=torch.float64)
    cell = Cell(threshold, fraction, 1 - leak, threshold / dt)
    error = alone(x.expand(steps, -1), cell, 1 / (1 - leak)).output - (1 - leak) / dt * x
    bound = max(fraction, 1 - fraction) * threshold / (dt * total(steps, leak))
    assert 0.9 * bound < error.abs().max() <= bound * (1 + 1e-9)


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("cell", [Cell(), ODD])
def test_output_rate_is_input_rate_less_the_membrane(name: str, cell: Cell) -> None:
    names = RateMachine(weights(name, 0)).simulate(PROGRAMS[name], sample(name, 0, 1)[0])[1]
    _, layers = RateMachine(weights(name, 0), dict.fromkeys(names, cell)).simulate(PROGRAMS[name], sample(name, 0)[0])
    for layer in layers.values():
        charge = cell.gain * layer.input - layer.membrane / total(6, layer.leak)
        torch.testing.assert_close(layer.output, cell.amplitude * charge / cell.reset_amount, rtol=1e-13, atol=1e-13)
        assert 0.05 < layer.spikes.mean() < 0.95


@pytest.mark.parametrize("tau", [math.inf, 5.0])
@pytest.mark.parametrize("cell", [Cell(2.0), Cell(2.0, fraction=0.5)])
def test_rates_around_a_loop(tau: float, cell: Cell) -> None:
    """`R a_1 = x1 + Z[T-1] / Z[T] (W a'_2 + c) - v_1 / Z[T]`, with `a'` up to one step before the last."""
    params, x, _ = settled(1, reset_amount=2.0)
    machine, steps, leak = RateMachine(params, {"1": cell, "2": cell}), 12, 1 - 1 / tau
    _, layers = machine.simulate(partial(loop, tau=tau), x.expand(steps, -1, -1))
    first, second = layers["1"], layers["2"]
    now, before = total(steps, leak), total(steps - 1, leak)
    earlier = torch.stack([leak ** (steps - 2 - t) * second.spikes[t] for t in range(steps - 1)]).sum(0) / before
    received = earlier @ params["back.weight"].T + params["back.bias"]
    drive = x @ params["in.weight"].T + params["in.bias"] + before / now * received
    torch.testing.assert_close(2 * first.output, drive - first.membrane / now, rtol=1e-13, atol=1e-13)
    drive = first.output @ params["forth1.weight"].T + params["forth1.bias"]
    torch.testing.assert_close(2 * second.output, drive - second.membrane / now, rtol=1e-13, atol=1e-13)


def test_a_rest_below_zero_removes_the_bias_of_the_rates() -> None:
    errors = {}
    for name, cell in {"zero": Cell(1.0), "lowered": Cell(2.0, fraction=0.5)}.items():
        cells, found = dict.fromkeys("123", cell), []
        for seed in range(30):
            params, x, _ = settled(seed, depth=3, reset_amount=cell.reset_amount, batch=16)
            mean, layers = RateMachine(params, cells).simulate(partial(loop, depth=3), x.expand(30, -1, -1))
            settles = equilibrium(partial(loop, depth=3), params, mean, cells)[1].now
            found.append(torch.stack([(layers[key].output - settles[key]).mean() for key in "123"]))
        errors[name] = 30 * torch.stack(found).mean(0)
    assert (errors["lowered"].abs() < 0.05).all() and (errors["zero"] < -0.3).all(), errors


def test_the_two_masks() -> None:
    x = torch.tensor([-0.1, 0.0, 0.05, 0.5, 1.0, 1.2], dtype=torch.float64)
    layer = alone(x.expand(10, -1), Cell(amplitude=3.0))
    assert layer.spikes.sum(0).tolist() == [0, 0, 0, 5, 10, 10]
    assert layer.slope("input").tolist() == [0, 3, 3, 3, 3, 0]
    assert layer.slope("output").tolist() == [0, 0, 0, 3, 0, 0]
    layer = alone(torch.tensor([0.15, 0.5, 5.0], dtype=torch.float64).expand(10, -1), Cell(), tau=5.0)
    assert layer.slope("output").tolist() == [0, 1, 0]


def test_what_rates_cannot_do_is_refused() -> None:
    x = torch.ones(2, 3, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="'1' resets to zero"):
        RateMachine(weights("hard_reset", 0)).simulate(PROGRAMS["hard_reset"], x)
    with pytest.raises(ValueError, match="0 leaks instead of one"):
        RateMachine({}).simulate(neurons, x)
    with pytest.raises(ValueError, match="2 leaks instead of one"):
        RateMachine(weights("mlp", 0)).simulate(two_readers, x)


def by_hand(params: Params, x: Tensor, y: Tensor, taus: tuple[float, float], mask: Mask, cell: Cell) -> Params:
    """The gradient of the chain `mlp` by the two products of each layer."""
    _, layers = RateMachine(params, {"1": cell, "3": cell}).simulate(partial(PROGRAMS["mlp"], taus=taus), x)
    leak = 1 - 1 / taus[0]
    x_mean = torch.stack([leak ** (len(x) - 1 - t) * x[t] for t in range(len(x))]).sum(0) / total(len(x), leak)
    sources = [x_mean, layers["1"].output, layers["3"].output]
    g = hand.output_error((sources[2] @ params["4.weight"].T + params["4.bias"])[None], y)[0]
    found = {}
    for name, source, below in (("4", sources[2], "3"), ("2", sources[1], "1"), ("0", sources[0], None)):
        found |= {f"{name}.weight": g.T @ source, f"{name}.bias": g.sum(0)}
        if below is not None:
            drive, fired = cell.gain * layers[below].input / cell.reset_amount, layers[below].output / cell.amplitude
            passes = (drive >= 0) & (drive <= 1) if mask == "input" else (fired > 1e-9) & (fired < 1 - 1e-9)
            g = g @ params[f"{name}.weight"] * passes * cell.amplitude * cell.gain / cell.reset_amount
    return {name: found[name] for name in params}


@pytest.mark.parametrize("taus", [(2.0, 2.0), (1.5, 5.0), (math.inf, math.inf)])
@pytest.mark.parametrize("mask", ["input", "output"])
@pytest.mark.parametrize("cell", [Cell(), ODD])
def test_a_chain_is_the_hand_formula(taus: tuple[float, float], mask: Mask, cell: Cell) -> None:
    params, (x, y) = weights("mlp", 2), sample("mlp", 2, steps=9)
    cells = {"1": cell, "3": cell}
    found = rate.gradients(partial(PROGRAMS["mlp"], taus=taus), params, x, y, CE, mask, cells)
    assert_agree(found, by_hand(params, x, y, taus, mask, cell))


@pytest.mark.parametrize("name", ["mlp", "conv", "deep", "shared", "if_net"])
@pytest.mark.parametrize("seed", range(2))
def test_without_feedback_it_is_backpropagation_through_a_clamp(name: str, seed: int) -> None:
    """With the membranes that are left as constant offsets, the clamps have the values of the rates; one leak only."""
    program, params, x, y, _ = case(name, seed)
    x_mean, layers = RateMachine(params).simulate(program, x)
    offsets = {key: layer.output - layer.input.clamp(0, 1) for key, layer in layers.items()}
    net = RateMap(params, offsets=offsets)
    plain = net.gradients(CE(program(x_mean, net), y))
    assert_agree(rate.gradients(program, params, x, y, CE), plain)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_closing_the_loop_by_hand(depth: int) -> None:
    """Per sample `v = (1 - W^T m_1 F_1^T m_2 ...)^-1 g` at the last layer, then the products of the layers below."""
    params, x, y = settled(3, depth)
    frames = x * torch.linspace(0.5, 1.5, 11, dtype=torch.float64)[:, None, None]
    _, layers = RateMachine(params).simulate(partial(loop, depth=depth), frames)
    keys = [str(layer) for layer in range(1, depth + 1)]
    masks = [((layers[key].input >= 0) & (layers[key].input <= 1)).double() for key in keys]
    top = layers[keys[-1]].output
    g = hand.output_error((top @ params["out.weight"].T + params["out.bias"])[None], y)[0] @ params["out.weight"]
    synapses, sources = ["back", *(f"forth{key}" for key in keys[:-1])], [layers[key].output for key in keys]
    v = []
    for n, slope in enumerate(g):
        unit = torch.eye(len(slope), dtype=torch.float64)
        around = unit
        for name, mask in zip(synapses, masks):
            around = mask[n][:, None] * params[f"{name}.weight"] @ around
        v.append(torch.linalg.inv(unit - around).T @ slope)
    below, expected = torch.stack(v), {}
    for level in reversed(range(depth)):
        error = masks[level] * below
        for name, source in ((synapses[level], sources[level - 1]), *([("in", frames.mean(0))] if level == 0 else [])):
            expected |= {f"{name}.weight": error.T @ source, f"{name}.bias": error.sum(0)}
        below = error @ params[f"{synapses[level]}.weight"]
    found = rate.gradients(partial(loop, depth=depth), params, frames, y, CE)
    assert_agree({key: found[key] for key in expected}, expected)


def test_an_idle_feedback_changes_nothing_else() -> None:
    params, x, y = settled(4)
    params |= {"back.weight": 0 * params["back.weight"], "back.bias": 0 * params["back.bias"]}
    frames, program = x.expand(20, -1, -1), partial(loop, closed=False)
    closed, opened = (rate.gradients(net, params, frames, y, CE) for net in (loop, program))
    others = [key for key in params if not key.startswith("back")]
    assert_agree({key: closed[key] for key in others}, {key: opened[key] for key in others})
    assert closed["back.weight"].norm() > 1e-2 and not opened["back.weight"].any()


def test_finite_differences_are_the_gradient_of_a_clamp() -> None:
    program, params, x, y, _ = case("conv")
    cells = {"1": ODD, "4": ODD}
    net = RateMap(params, cells)
    plain = net.gradients(CE(program(x.mean(0), net), y))
    for name in ("0.weight", "3.bias"):
        found = finite_difference(program, params, x.mean(0), y, CE, name, cells)
        torch.testing.assert_close(found, plain[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("depth, seed, most", [(1, 5, 3162), (2, 31, 10000), (3, 31, 3162)])
@pytest.mark.long
def test_the_error_to_finite_differences_falls_with_the_steps(depth: int, seed: int, most: int) -> None:
    program, (params, x, y) = partial(loop, depth=depth), settled(seed, depth)
    assert clearance(equilibrium(program, params, x)[1]) > 0.015
    expected = {name: finite_difference(program, params, x, y, CE, name) for name in params}
    steps = [n for n in (10, 32, 100, 316, 1000, 3162, 10000) if n <= most]
    errors = [distance(rate.gradients(program, params, x.expand(n, -1, -1), y, CE), expected) for n in steps]
    assert order(steps, errors) == pytest.approx(-1, abs=0.15), errors
    assert errors[-1] < 4 / most, errors


def test_a_loop_that_does_not_settle_is_said_to() -> None:
    params, x, _ = settled(0, depth=1)
    params["back.weight"] = -2 * torch.eye(6, dtype=torch.float64)
    with pytest.raises(ArithmeticError, match="no contraction"):
        equilibrium(partial(loop, depth=1), params, x, iterations=200)
