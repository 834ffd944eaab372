"""The published formula of differentiation on spike representation, by hand and against the gradient through rates."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles import dsr_reference, hand, rate
from tests.oracles.compare import assert_agree, relative
from tests.oracles.draw import draw, sample
from tests.oracles.dsr_reference import Kind, Neurons, Stage
from tests.oracles.machine import Machine, Params
from tests.oracles.rate_machine import Cell, RateMachine

pytestmark = pytest.mark.timeout(30)
CE = F.cross_entropy
IF, LIF = Kind(fraction=0.5), Kind(fraction=0.3, dt=0.05)


def linear(name: str, params: Params, x: Tensor) -> Tensor:
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


CHAIN = [Stage(partial(linear, "0"), "1.threshold"), Stage(partial(linear, "2"), "3.threshold")]
NORMED = [Stage(partial(linear, "0"), "1.threshold", "a"), Stage(partial(linear, "2"), "3.threshold", "b")]


def thresholds(kind: Kind) -> dict[str, float]:
    return {"1.threshold": 1.25, "3.threshold": 1.5} if kind.dt is None else {"1.threshold": 0.06, "3.threshold": 0.07}


def problem(kind: Kind, seed: int = 0, steps: int = 20) -> tuple[Params, Tensor, Tensor]:
    params = draw({"0": (12, 8), "2": (4, 12)}, seed)
    params |= {name: torch.tensor(value, dtype=torch.float64) for name, value in thresholds(kind).items()}
    return params, *sample("mlp", seed, steps, batch=5)


def shares(kind: Kind, steps: int) -> list[float]:
    powers = [math.exp(-(steps - 1 - t) * (kind.dt or 0.0) / kind.tau) for t in range(steps)]
    return [power / sum(powers) for power in powers]


def by_hand(params: Params, x: Tensor, y: Tensor, kind: Kind) -> Params:
    """The two products of each layer, without autograd: weighted rates in the masks, plain means in the weights."""
    share = torch.tensor(shares(kind, len(x)), dtype=torch.float64)[:, None, None]
    logits, sent = dsr_reference.run(CHAIN, params, x, kind)
    g = hand.output_error(logits[None], y)[0] * (1.0 if kind.dt is None else len(x) * float(share.square().sum()))
    found = {}
    for name, neurons, source in (("2", "3", sent[0]), ("0", "1", x)):
        r = (share * (source @ params[f"{name}.weight"].T + params[f"{name}.bias"])).sum(0)
        threshold = params[f"{neurons}.threshold"]
        if kind.dt is None:
            found[f"{neurons}.threshold"], g = g[r > threshold].sum(), g * (r >= 0) * (r <= threshold)
        else:
            top = threshold * kind.tau / kind.dt
            found[f"{neurons}.threshold"], g = kind.dt * g[r > top].sum(), g * (r > 0) * (r < top) / kind.tau
        found |= {f"{name}.weight": g.T @ source.mean(0), f"{name}.bias": g.sum(0)}
        g = g @ params[f"{name}.weight"]
    return {name: found[name] for name in params}


@pytest.mark.parametrize("kind", [IF, LIF, Kind(1.0), Kind(0.5, dt=0.1, tau=1.5)])
@pytest.mark.parametrize("seed", [1, 2, 3, 7])
def test_the_chain_is_the_hand_formula(kind: Kind, seed: int) -> None:
    params, x, y = problem(kind, seed)
    found = dsr_reference.gradients(CHAIN, params, x, y, CE, kind)
    assert_agree(found, by_hand(params, x, y, kind))
    assert all(value.any() for value in found.values())


@pytest.mark.parametrize("steps, dt, kappa", [(20, 0.05, 1.0818), (5, 0.1, 1.0199)])
def test_the_readout_weights_the_last_layer_twice(steps: int, dt: float, kappa: float) -> None:
    """Logits that are a mean over time already are averaged once more on the way back."""
    source = torch.Generator().manual_seed(0)
    current = 2 * torch.rand(steps * 3, 7, generator=source, dtype=torch.float64)
    pull = torch.randn(3, 7, generator=source, dtype=torch.float64)
    current.requires_grad_()
    kind = Kind(0.3, dt=dt)
    share = torch.tensor(shares(kind, steps), dtype=torch.float64)[:, None, None]
    spikes = Neurons.apply(current, torch.tensor(0.3, dtype=torch.float64), steps, kind).unflatten(0, (steps, 3))
    (found,) = torch.autograd.grad((pull * (share * spikes).sum(0)).sum(), current)
    expected = kappa * (pull / steps).expand(steps, -1, -1).flatten(0, 1)
    torch.testing.assert_close(found, expected, rtol=5e-5, atol=0)


@pytest.mark.parametrize("kind", [IF, Kind(1.0)])
def test_if_neurons_are_a_clip_of_the_mean(kind: Kind) -> None:
    """A gradient that differs from step to step goes on as its sum."""
    source = torch.Generator().manual_seed(1)
    current = (3 * torch.rand(9, 4, 50, generator=source, dtype=torch.float64) - 0.5).requires_grad_()
    threshold = torch.tensor(1.25, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(9, 4, 50, generator=source, dtype=torch.float64)
    spikes = Neurons.apply(current.flatten(0, 1), threshold, 9, kind).unflatten(0, (9, 4))
    found = torch.autograd.grad((pull * spikes).sum(), [current, threshold])
    clipped = torch.minimum(current.mean(0).clamp(min=0), threshold)
    expected = torch.autograd.grad((pull.sum(0) * clipped).sum(), [current, threshold])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (found[0] == found[0][0]).all() and not found[0].all()


@pytest.mark.parametrize("kind, passes", [(IF, [0, 1, 1, 1, 0]), (LIF, [0, 0, 1, 0, 0])])
def test_the_ends_of_the_range_pass_for_if_only(kind: Kind, passes: list[int]) -> None:
    top = 0.5 * kind.tau / (kind.dt or 1.0)
    current = top * torch.tensor([[-0.5, 0.0, 0.5, 1.0, 1.5]], dtype=torch.float64).requires_grad_()
    (found,) = torch.autograd.grad(Neurons.apply(current, torch.tensor(0.5), 1, kind).sum(), current)
    assert found.tolist() == [passes]


def program(x: Tensor, net: Machine, tau: float = math.inf) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1"), tau)
    return net.lif("3", net.syn("2", s, pre="1", post="3"), tau)


def cells(kind: Kind) -> dict[str, Cell]:
    gain, dt = (1.0, 1.0) if kind.dt is None else (1 - kind.leak, kind.dt)
    return {
        name.removesuffix(".threshold"): Cell(
            reset_amount=value, fraction=kind.fraction, gain=gain, amplitude=value / dt
        )
        for name, value in thresholds(kind).items()
    }


def synapses(params: Params) -> Params:
    return {name: value for name, value in params.items() if not name.endswith("threshold")}


@pytest.mark.parametrize("kind", [IF, LIF])
def test_both_simulations_are_one(kind: Kind) -> None:
    params, x, _ = problem(kind)
    logits, sent = dsr_reference.run(CHAIN, params, x, kind)
    tau = math.inf if kind.dt is None else 1 / (1 - kind.leak)
    _, layers = RateMachine(synapses(params), cells(kind)).simulate(partial(program, tau=tau), x)
    for layer, series in zip(layers.values(), sent):
        assert torch.equal(layer.spikes, (series > 0).double()) and 0.05 < layer.spikes.mean() < 0.95
    torch.testing.assert_close(logits, layers["3"].output, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_for_if_it_is_the_gradient_through_rates(seed: int) -> None:
    params, x, y = problem(IF, seed)
    found = synapses(dsr_reference.gradients(CHAIN, params, x, y, CE, IF))
    assert_agree(found, rate.gradients(program, synapses(params), x, y, CE, "input", cells(IF)))


def conv(params: Params, x: Tensor) -> Tensor:
    return F.conv2d(x, params["0.weight"], params["0.bias"], padding=1)


def pooled(params: Params, x: Tensor) -> Tensor:
    return linear("2", params, F.avg_pool2d(x, 2).flatten(1))


def pooled_program(x: Tensor, net: Machine) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1", padding=1), math.inf)
    return net.lif("3", net.syn("2", F.avg_pool2d(s, 2).flatten(1), pre="1", post="3"), math.inf)


def test_for_if_it_is_the_gradient_through_rates_of_a_convolution() -> None:
    params, (x, y) = draw({"0": (5, 2, 3, 3), "2": (4, 80)}, 0), sample("conv", 0, 12)
    params |= {name: torch.tensor(value, dtype=torch.float64) for name, value in thresholds(IF).items()}
    stages = [Stage(conv, "1.threshold"), Stage(pooled, "3.threshold")]
    found = synapses(dsr_reference.gradients(stages, params, x, y, CE, IF))
    assert_agree(found, rate.gradients(pooled_program, synapses(params), x, y, CE, "input", cells(IF)))


def test_for_lif_it_has_other_slopes_and_a_constant_factor() -> None:
    """Every layer has `1 / tau` for `(1 - leak) / dt`, and all of them `kappa`; plain means change weights only."""
    params, x, y = problem(LIF, seed=2)  # no unit is between the two points of saturation
    found = synapses(dsr_reference.gradients(CHAIN, params, x, y, CE, LIF))
    through = partial(program, tau=1 / (1 - LIF.leak))
    rates = rate.gradients(through, synapses(params), x, y, CE, "input", cells(LIF))
    kappa, ratio = 20 * sum(share**2 for share in shares(LIF, 20)), 0.05 / (1 - LIF.leak)
    expected = {"2.bias": kappa * ratio * rates["2.bias"], "0.bias": kappa * ratio**2 * rates["0.bias"]}
    assert_agree({name: found[name] for name in expected}, expected)
    scaled = {"2.weight": kappa * ratio * rates["2.weight"]}
    assert 1e-3 < relative({"2.weight": found["2.weight"]}, scaled)["2.weight"] < 0.2


def normed_at_rates(params: Params, x: Tensor, y: Tensor, fixed: bool) -> Params:
    """One evaluation at the means over time, each variance completed by that over time of the current.

    The current's variance over time is a function of the weight, `mean (W (s[t] - mean s))^2`, unless `fixed`.
    """
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    _, sent = dsr_reference.run(NORMED, params, x, IF)
    rates = x.mean(0)
    for (name, neurons, norm), source, result in zip((("0", "1", "a"), ("2", "3", "b")), (x, sent[0]), sent):
        weight, bias, threshold = leaves[f"{name}.weight"], leaves[f"{name}.bias"], leaves[f"{neurons}.threshold"]
        current = rates @ weight.T + bias
        moving = ((source - source.mean(0)) @ (weight.detach() if fixed else weight).T).square().mean((0, 1))
        spread = (current.var(0, correction=0) + moving + 1e-5).sqrt()
        normal = (current - current.mean(0)) / spread * leaves[f"{norm}.weight"] + leaves[f"{norm}.bias"]
        clipped = torch.minimum(normal.clamp(min=0), threshold)
        rates = result.mean(0) + clipped - clipped.detach()
    return dict(zip(leaves, torch.autograd.grad(CE(rates, y), list(leaves.values()))))


@pytest.mark.parametrize("seed", range(4))
def test_joint_normalisation_is_one_over_rates_with_the_variance_over_time(seed: int) -> None:
    params, x, y = problem(IF, seed)
    source = torch.Generator().manual_seed(seed)
    for name, units in (("a", 12), ("b", 4)):
        params[f"{name}.weight"] = 0.75 + 0.5 * torch.rand(units, generator=source, dtype=torch.float64)
        params[f"{name}.bias"] = 0.5 + 0.2 * torch.randn(units, generator=source, dtype=torch.float64)
    found = dsr_reference.gradients(NORMED, params, x, y, CE, IF)
    exact = normed_at_rates(params, x, y, fixed=False)
    unaffected = [name for name in params if name not in ("0.bias", "2.bias")]
    assert_agree({name: found[name] for name in unaffected}, {name: exact[name] for name in unaffected})
    assert all(found[name].norm() < 1e-14 for name in ("0.bias", "2.bias"))
    wrong = relative(found, normed_at_rates(params, x, y, fixed=True))
    assert wrong["2.weight"] > 1e-2 and wrong["b.weight"] < 1e-12
