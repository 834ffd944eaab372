"""DSR: the neurons it was made for, the code of its authors, its limit, and what it refuses."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.layers import JointBatchNorm1d, PerStepBatchNorm1d, StepDropout
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF, Dynamics, Neuron
from spikewright.neurons.dsr import DSRIF, DSRLIF
from spikewright.rules import DSR
from spikewright.temporal import SiteState, Temporal
from tests.core.support import Lambda
from tests.core.test_neuron_family import UNIFORM, Member
from tests.nets import NETS, mlp, sample
from tests.oracles import dsr_reference, rate
from tests.oracles.compare import assert_agree
from tests.oracles.draw import draw
from tests.oracles.dsr_reference import Kind, Stage
from tests.oracles.loops import distance, order
from tests.oracles.machine import Machine, Params
from tests.oracles.rate import AtRates
from tests.oracles.rate_machine import RateMachine
from tests.rules.support import assert_identical, collected, gradients, learn

CE = F.cross_entropy


class Thresholds(AtRates):
    """The program at its rates, where units above their range follow the threshold of their layer.

    Parameters `LAYER.threshold` have gradients scaled by `factor`; `owners` names the modules of shared layers.
    """

    factor: float
    owners: dict[str, str]

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        rates, layer = super().lif(name, current, tau), self.layers[name]
        threshold = self.params[f"{self.owners.get(name, name)}.threshold"]
        above = layer.cell.gain * layer.input > layer.cell.reset_amount
        step = self.factor * layer.cell.amplitude / layer.cell.reset_amount * (threshold - threshold.detach())
        self.now[name] = rates + above * step
        return self.now[name]


Program = Callable[..., Tensor]


def chain(x: Tensor, net: Machine, tau: float) -> Tensor:
    s = net.lif("1", net.syn("0", x, post="1"), tau)
    s = net.lif("3", net.syn("2", s, pre="1", post="3"), tau)
    return net.syn("4", s, pre="3")


def image(x: Tensor, net: Machine, tau: float) -> Tensor:
    """Pooled spikes skip two convolutions, one of them grouped."""
    skip = F.avg_pool2d(net.lif("first", net.syn("stem", x, post="first", padding=1), tau), 2)
    s = net.lif("inner", net.syn("conv1", skip, pre="first", post="inner", padding=1, groups=2), tau)
    s = net.lif("last", skip + net.syn("conv2", s, pre="inner", post="last", padding=1), tau)
    return net.syn("out", s.flatten(1), pre="last")


def shared(x: Tensor, net: Machine, tau: float) -> Tensor:
    s = net.lif("once", net.syn("fc1", x, post="once"), tau)
    s = net.lif("again", net.syn("fc2", s, pre="once", post="again"), tau)
    return net.syn("out", s, pre="again")


def image_module(make: Callable[[], Neuron]) -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        skip = F.avg_pool2d(first(m.get_submodule("stem")(x)), 2)
        s = inner(m.get_submodule("conv1")(skip))
        return m.get_submodule("out")(last(skip + m.get_submodule("conv2")(s)).flatten(1))

    first, inner, last = make(), make(), make()
    convs = {"stem": nn.Conv2d(2, 6, 3, padding=1), "conv1": nn.Conv2d(6, 6, 3, padding=1, groups=2)}
    convs |= {"conv2": nn.Conv2d(6, 6, 3, padding=1), "out": nn.Linear(54, 4)}
    return Lambda(forward, **convs, first=first, inner=inner, last=last)


def shared_module(make: Callable[[], Neuron]) -> nn.Module:
    neuron, layers = make(), {"fc1": nn.Linear(8, 12), "fc2": nn.Linear(12, 12), "out": nn.Linear(12, 4)}
    fc1, fc2, out = layers.values()
    return Lambda(lambda _, x: out(neuron(fc2(neuron(fc1(x))))), neuron=neuron, **layers)


TESTED: dict[str, tuple[Program, Callable[[Callable[[], Neuron]], nn.Module], dict[str, str], str]] = {
    "chain": (chain, lambda make: mlp(make(), make()), {}, "mlp"),
    "image": (image, image_module, {}, "residual"),
    "shared": (shared, shared_module, {"once": "neuron", "again": "neuron"}, "mlp"),
}
"""Program, module, the modules of shared layers, and the network of `tests/nets.py` whose data it takes."""


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with drawn weights; thresholds stay."""
    shapes = {n.removesuffix(".weight"): tuple(p.shape) for n, p in module.named_parameters() if p.dim() > 1}
    module.load_state_dict(draw(shapes, seed), strict=False)
    return module


def params(module: nn.Module) -> Params:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_near(found: Params, expected: Params) -> None:
    """Equality up to rounding, also where terms cancel: thresholds of layers within their range."""
    assert found.keys() == expected.keys()
    largest = max(float(grad.norm()) for grad in expected.values())
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= 1e-10 * max(float(grad.norm()), 1e-3 * largest), name


def tau(member: Member) -> float:
    return math.inf if member.leaks[0] == 1 else 1 / (1 - member.leaks[0])


def explicit(member: Member, name: str, module: nn.Module, x: Tensor, y: Tensor) -> Params:
    """The gradient at rates; where thresholds are trained, with theirs."""
    program, _, owners, _ = TESTED[name]
    program, given = partial(program, tau=tau(member)), params(module)
    layers = ("1", "3") if name == "chain" else owners or ("first", "inner", "last")
    cells = dict.fromkeys(layers, member.cell)
    if member.factor is None:
        return rate.gradients(program, given, x, y, CE, "input", cells)
    x_mean, recorded = RateMachine(given, cells).simulate(program, x)
    graph = Thresholds(given, recorded)
    graph.factor, graph.owners = member.factor, owners
    return graph.gradients(CE(program(x_mean, graph), y))


@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize("member", UNIFORM.values(), ids=list(UNIFORM))
@pytest.mark.parametrize("still", [False, True])
def test_equals_its_explicit_program(member: Member, name: str, still: bool) -> None:
    x, y = sample(TESTED[name][3], 0, steps=9)
    x = x[:1].expand_as(x) if still else x
    module = filled(TESTED[name][1](member.make))
    (update,) = learn(DSR(), module, x, y)
    assert all(0.02 < share < 0.98 for share in update.rates.values()), update.rates
    expected = explicit(member, name, module, x, y)
    assert_near(collected(module), expected)
    trained = {"chain": 2, "image": 3, "shared": 1}[name] if member.factor is not None else 0
    steps = [bool(grad.abs() > 1e-6) for key, grad in expected.items() if key.endswith("threshold")]
    assert len(steps) == trained and any(steps) == bool(trained)
    assert all(grad.any() for key, grad in expected.items() if not key.endswith("threshold"))


REFERENCES = [Kind(0.5), Kind(1.0), Kind(0.3, dt=0.05), Kind(0.5, dt=0.1, tau=1.5)]
every_kind = pytest.mark.parametrize("kind", REFERENCES, ids=str)


def neurons(kind: Kind, threshold: float) -> Neuron:
    """`threshold` is in units of what is sent."""
    if kind.dt is None:
        return DSRIF(threshold, kind.fraction)
    return DSRLIF(kind.tau, kind.dt, threshold * kind.dt, kind.fraction)


def linear(name: str, params: Params, x: Tensor) -> Tensor:
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def conv(name: str, params: Params, x: Tensor) -> Tensor:
    return F.conv2d(x, params[f"{name}.weight"], params[f"{name}.bias"], padding=1)


def pool(params: Params, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


def flat(name: str, params: Params, x: Tensor) -> Tensor:
    return linear(name, params, x.flatten(1))


def dense(kind: Kind) -> tuple[nn.Module, list[Stage]]:
    sizes, modules = (8, 12, 10, 4), []
    for one, other, threshold in zip(sizes, sizes[1:], (1.2345, 1.0123, 1.5)):
        modules += [nn.Linear(one, other), neurons(kind, threshold)]
    return nn.Sequential(*modules), [Stage(partial(linear, f"{2 * n}"), f"{2 * n + 1}.threshold") for n in range(3)]


def pooled(kind: Kind) -> tuple[nn.Module, list[Stage]]:
    """Neurons that see the pooled spikes of others, with no weights between, as in the residual network of DSR."""
    first = [nn.Conv2d(2, 5, 3, padding=1), neurons(kind, 1.2345), nn.AvgPool2d(2), neurons(kind, 0.7123)]
    module = nn.Sequential(*first, nn.Flatten(), nn.Linear(80, 4), neurons(kind, 1.5))
    return module, [
        Stage(partial(conv, "0"), "1.threshold"),
        Stage(pool, "3.threshold"),
        Stage(partial(flat, "5"), "6.threshold"),
    ]


CHAINS = {"dense": (dense, "mlp"), "pooled": (pooled, "conv")}


def both(name: str, kind: Kind, seed: int, still: bool) -> tuple[Params, Params]:
    """Gradients of `DSR(reference=True)`, and of the formulas of the authors."""
    build, data = CHAINS[name]
    module, stages = build(kind)
    x, y = sample(data, seed, steps=20, batch=5)
    x = x[:1].expand_as(x) if still else x
    expected = dsr_reference.gradients(stages, params(filled(module, seed)), x, y, CE, kind)
    return gradients(DSR(reference=True), module, x, y), expected


@every_kind
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("seed", [1, 7, 9])
@pytest.mark.parametrize("still", [False, True])
def test_the_reference_is_the_code_of_the_authors(name: str, kind: Kind, seed: int, still: bool) -> None:
    found, expected = both(name, kind, seed, still)
    assert_near(found, expected)
    assert sum(bool(grad.any()) for grad in expected.values()) >= len(expected) - 1


@every_kind
def test_the_reference_is_the_rule_itself_for_neurons_without_leak(kind: Kind) -> None:
    module, (x, y) = filled(dense(kind)[0]), sample("mlp", 0, steps=20)
    reference, plain = (gradients(DSR(reference=on), module, x, y) for on in (True, False))
    if kind.dt is None:
        assert_identical(reference, plain)
    else:
        reached = [n for n in plain if plain[n].any() or reference[n].any()]  # not a threshold that nothing reaches
        assert set(reached) >= {n for n in plain if "threshold" not in n}
        assert all(0.01 < distance({n: reference[n]}, {n: plain[n]}) for n in reached)


def clipped(leaves: Params, x: Tensor, y: Tensor, top: float) -> Params:
    """The gradient of the chain with clips in the place of neurons, of thresholds per `top` of full scale."""
    leaves = {name: p.clone().requires_grad_() for name, p in leaves.items()}
    for name in ("0", "2"):
        r, full = linear(name, leaves, x), leaves[f"{int(name) + 1}.threshold"] / top
        x = torch.minimum(r.clamp(min=0), full)
    loss = CE(linear("4", leaves, x), y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))


def test_with_many_steps_it_is_the_gradient_of_clips() -> None:
    x, y = sample("mlp", 4, steps=1, batch=4)
    module, steps = filled(mlp(DSRIF(1.25), DSRIF(1.0)), 4), [30, 100, 300, 1000, 3000]
    expected = clipped(params(module), x[0], y, 1.0)
    errors = [distance(gradients(DSR(), module, x.expand(n, -1, -1), y), expected) for n in steps]
    assert order(steps, errors) == pytest.approx(-1, abs=0.2), errors
    assert errors[-1] < 2e-3 and all(grad.any() for grad in expected.values())


@pytest.mark.parametrize("reference", [False, True])
def test_with_short_steps_leaky_neurons_are_clips_too(reference: bool) -> None:
    (x, y), numbers, errors = sample("mlp", 4, steps=1, batch=4), [80, 240, 800, 2400], []
    for steps in numbers:
        neurons = (DSRLIF(1.0, 8 / steps, top * 8 / steps, 0.5, threshold_grad=1.0) for top in (1.25, 1.0))
        module = filled(mlp(*neurons), 4)
        found = gradients(DSR(reference=reference), module, x.expand(steps, -1, -1), y)
        errors.append(distance(found, clipped(params(module), x[0], y, 8 / steps)))
    assert order(numbers, errors) == pytest.approx(-1, abs=0.3), errors
    assert errors[-1] < 2e-3, errors


def at_the_ends(neuron: Neuron, full: float) -> tuple[Tensor, Params]:
    """Gradients of currents below, at the ends of, and above the range of a neuron layer, and all the gradients."""
    enter, leave = nn.Linear(1, 7), nn.Linear(7, 1)
    with torch.no_grad():
        enter.weight.zero_()
        enter.bias.copy_(full * torch.tensor([-1.0, -1e-9, 0.0, 0.5, 1.0, 1 + 1e-9, 2.0]))
        leave.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]))
    rule = DSR(reference=isinstance(neuron, DSRLIF))
    found = gradients(rule, nn.Sequential(enter, neuron, leave), torch.rand(8, 2, 1), torch.zeros(2), OnRate(total))
    return found["0.bias"], found


def total(output: Tensor, y: Tensor) -> Tensor:
    return output.sum() / len(output)


def test_outside_of_its_range_a_unit_learns_nothing() -> None:
    for neuron, full, slope in ((DSRIF(2.0), 2.0, 1.0), (IF(0.5, rest=-1.5, gain=2.0, amplitude=3.0), 1.0, 3.0)):
        bias, found = at_the_ends(neuron, full)
        assert bias.tolist() == [0, 0, *(slope * w for w in (3, 4, 5)), 0, 0]
        assert "1.threshold" not in found or float(found["1.threshold"]) == 6 + 7
    bias, found = at_the_ends(DSRLIF(1.0, 0.05, 0.1), 2.0)  # the formula of the authors: no end passes
    assert bias[[0, 1, 2, 5, 6]].tolist() == [0] * 5 and float(bias[3]) == pytest.approx(4, rel=1e-12)
    assert float(found["1.threshold"]) == pytest.approx(0.05 * (6 + 7), rel=1e-12)


@pytest.mark.parametrize("dt, steps, kappa", [(0.05, 20, 1.0818), (0.1, 5, 1.0199)])
def test_the_reference_weights_spikes_that_are_outputs_twice(dt: float, steps: int, kappa: float) -> None:
    enter, x = nn.Linear(8, 4), torch.full((1, 2, 8), 0.5)
    nn.init.constant_(enter.weight, 0.25)
    for last, factor in ((nn.Identity(), kappa), (nn.Linear(4, 4), 1.0)):  # weights behind it read the plain mean
        if isinstance(last, nn.Linear):
            nn.init.eye_(last.weight)
        module = nn.Sequential(enter, DSRLIF(1.0, dt, 3 * dt), last)
        found = gradients(DSR(reference=True), module, x.expand(steps, -1, -1), torch.zeros(2), OnRate(total))
        torch.testing.assert_close(found["0.bias"], torch.full((4,), factor), rtol=5e-5, atol=0)


@pytest.mark.parametrize("chunk", [None, 1, 4, "auto", "1 MiB"])
@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("name", ["dsr if", "dsr lif"])
def test_every_chunk_gives_the_same(name: str, reference: bool, chunk: int | str | None) -> None:
    module, (x, y) = filled(image_module(UNIFORM[name].make)), sample("residual", 0, steps=9)
    found = gradients(DSR(reference=reference, chunk=chunk), module, x, y)
    assert_agree(found, gradients(DSR(reference=reference, chunk=9), module, x, y))
    assert found["stem.weight"].any()


def test_what_an_update_says() -> None:
    (x, y), module = sample("mlp", 0, steps=9), filled(mlp(UNIFORM["dsr lif"].make(), UNIFORM["dsr lif"].make()))
    (update,) = learn(DSR(), module, x, y)
    with torch.no_grad():
        output, state = Network(module).run(x)
    torch.testing.assert_close(update.output, output, rtol=1e-12, atol=1e-12)
    assert torch.equal(update.state["3"]["membrane"], state["3"]["membrane"])
    expected = OnRate(CE, leak=UNIFORM["dsr lif"].leaks[0])(output, y, 9)
    torch.testing.assert_close(update.loss, expected, rtol=1e-12, atol=0)
    assert not update.loss.requires_grad and not update.output.requires_grad and update.report is None


def test_thresholds_are_brought_back_before_they_are_used() -> None:
    module, (x, y) = filled(mlp(DSRIF(1.25, floor=0.5), DSRIF())), sample("mlp", 0)
    low = module.get_parameter("1.threshold")
    low.data.fill_(-0.25)
    found = gradients(DSR(), module, x, y)
    assert low.item() == 0.5 and found["1.threshold"].any()
    assert_identical(found, gradients(DSR(), module, x, y))


MASKED: dict[str, Callable[[], nn.Module]] = {
    "spikes": lambda: nn.Sequential(nn.Linear(8, 12), DSRLIF(1, 0.05, 0.06), nn.Dropout(0.4), nn.Linear(12, 4)),
    "currents": lambda: nn.Sequential(nn.Linear(8, 12), nn.Dropout(0.4), DSRLIF(1, 0.05, 0.06), nn.Linear(12, 4)),
}


@pytest.mark.parametrize("chunk", [1, 4, "auto"])
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_the_sequence_is_that_of_the_gradient(name: str, chunk: int | str) -> None:
    module, (x, y) = filled(MASKED[name]()), sample("mlp", 0, steps=9)
    site = {"spikes": "2", "currents": "1"}[name]
    (update,) = learn(DSR(chunk=chunk), module, x, y)
    mask, member = update.state[site]["mask"], UNIFORM["dsr lif"]
    assert 0 < (mask == 0).sum() < mask.numel()

    def program(x: Tensor, net: Machine) -> Tensor:
        current = net.syn("0", x, post="1")
        s = net.lif("1", current * mask if name == "currents" else current, tau(member))
        return net.syn("3", s * mask if name == "spikes" else s, pre="1")

    given = {name.replace("2.threshold", "1.threshold"): p for name, p in params(module).items()}
    x_mean, recorded = RateMachine(given, {"1": member.cell}).simulate(program, x)
    graph = Thresholds(given, recorded)
    graph.factor, graph.owners = 0.05**2, {}
    expected = graph.gradients(CE(program(x_mean, graph), y))
    found = {name.replace("2.threshold", "1.threshold"): grad for name, grad in collected(module).items()}
    assert_agree(found, expected, 1e-10)
    module.zero_grad()
    (later,) = learn(DSR(), module, x, y, state=update.state)
    assert torch.equal(later.state[site]["mask"], mask)


def test_one_leak_per_channel() -> None:
    """Each channel has means of its own; the input is still, or its mean would be another for each of them."""
    (x, y), leaks = sample("mlp", 0, steps=9), torch.tensor([0.0, 0.5, 0.75, 0.9])
    x = x[:1].expand_as(x)
    module = filled(nn.Sequential(nn.Linear(8, 4), LIF(1 / (1 - leaks), rest=-0.5), nn.Linear(4, 4)))
    (update,) = learn(DSR(), module, x, y)
    given = params(module)
    current, spikes, v = linear("0", given, x[0]), [], torch.zeros(3, 4)
    for _ in range(9):
        u = leaks * v + current
        spikes.append((u >= 1).double())
        v = u - 1.5 * spikes[-1]
    shares = torch.stack([leaks**age for age in range(8, -1, -1)])
    rates = torch.einsum("tc,tbc->bc", shares / shares.sum(0), torch.stack(spikes)).requires_grad_()
    loss = CE(linear("2", given, rates), y)
    torch.testing.assert_close(update.loss, loss.detach(), rtol=1e-12, atol=0)
    (g,) = torch.autograd.grad(loss, rates)
    g = g * ((current >= 0) & (current <= 1.5)) / 1.5
    found = collected(module)
    expected = {"0.weight": g.T @ x[0], "0.bias": g.sum(0)}
    assert_agree({name: found[name] for name in expected}, expected, 1e-12)
    with pytest.raises(IncompatibleRule, match=r"DSR takes the mean of the input, .* different leaks. .* static input"):
        learn(DSR(), module, sample("mlp", 0)[0], y)


class Memory(Temporal):
    """A layer that adds up what it has seen."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        y = x.cumsum(0) + state.get("sum", 0)
        return y, {"sum": y[-1]}


class Own(IF):
    """Dynamics of somebody else."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return (x > 0.5).to(x), state


class OwnMap(Own):
    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=1.0, rate_map=lambda rate: rate.clamp(0, 1))


def between(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), layer, LIF(), nn.Linear(12, 4))


REFUSED: dict[str, tuple[Callable[[], nn.Module], DSR, str]] = {
    "feedback": (
        lambda: NETS["feedback"](0),
        DSR(),
        r"'1' feeds back, .* Use IDE, which is DSR with feedback, or SPIDE",
    ),
    "hard reset": (lambda: NETS["hard_reset"](0), DSR(), r"'1' has a hard reset, .* Use reset='subtract'"),
    "fresh masks": (lambda: between(StepDropout(0.2)), DSR(), r"'1' draws a fresh mask .* Use nn.Dropout, whose mask"),
    "per step": (
        lambda: between(PerStepBatchNorm1d(12)),
        DSR(),
        r"'1' is PerStepBatchNorm1d, .* Use BatchNorm1d and say",
    ),
    "joint": (
        lambda: between(JointBatchNorm1d(12)),
        DSR(chunk=None),
        r"batch_norm='rate'. Use DSR\(batch_norm='joint'\), or",
    ),
    "no statistics": (
        lambda: between(nn.BatchNorm1d(12, track_running_stats=False)),
        DSR(),
        r"running statistics of '1' \(BatchNorm1d\), which has none",
    ),
    "a memory": (lambda: between(Memory()), DSR(), r"'1' is Memory, a layer with a memory of its own .* such as BPTT"),
    "max pooling": (
        lambda: between(nn.MaxPool1d(1)),
        DSR(),
        r"in '1' .MaxPool1d., .* there is max_pool2d, .* Use average pooling or batch norm",
    ),
    "layer norm": (
        lambda: between(nn.LayerNorm(12)),
        DSR(),
        r"in '1' .LayerNorm., .* is not the mean of its values",
    ),
    "own neuron": (
        lambda: between(Own()),
        DSR(),
        r"'1' is Own, with dynamics of its own .* Declare dynamics with a rate_map",
    ),
    "leak per channel": (
        lambda: nn.Sequential(LIF([2.0] * 8), nn.Linear(8, 4)),
        DSR(reference=True),
        r"DSR\(reference=True\) has a slope of -log\(leak\) / dt, but '0' .* Use one leak",
    ),
    "no leak left": (
        lambda: nn.Sequential(LIF(1.0), nn.Linear(8, 4)),
        DSR(reference=True),
        r"'0' has a leak of 0.0. Use one leak between 0 and 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    build, rule, message = REFUSED[name]
    module = build()
    with pytest.raises(IncompatibleRule, match=message):
        learn(rule, module, *sample("mlp", 0))
    assert not any(grad.any() for grad in collected(module).values())


def test_refuses_a_loss_of_every_step() -> None:
    with pytest.raises(
        IncompatibleRule, match=r"DSR learns from rates, .* is PerStep\(CrossEnt.* Use OnRate\(CrossEnt"
    ):
        learn(DSR(), NETS["mlp"](0), *sample("mlp", 0), PerStep(nn.CrossEntropyLoss()))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"DSR\(batch_norm='jont'\) is unknown. Did you mean 'joint'"):
        DSR("jont")  # type: ignore[arg-type]
    assert repr(DSR("joint", True)) == "DSR(batch_norm='joint', reference=True, chunk='auto')"


def test_dynamics_of_ones_own_need_a_rate_map_of_ones_own() -> None:
    module, (x, y) = between(OwnMap()), sample("mlp", 0)
    assert all(grad.any() for grad in gradients(DSR(), module, x, y).values())
