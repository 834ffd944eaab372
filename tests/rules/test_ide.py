"""IDE: the gradient of an equilibrium, through whatever feeds back."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, NotConverged
from spikewright.layers import StepDropout
from spikewright.layers.feedback import Feedback
from spikewright.layers.restriction import restrict_frobenius, restrict_spectral
from spikewright.models.feedback import FeedbackNet, Restriction
from spikewright.network import Network
from spikewright.neurons import IF, Neuron
from spikewright.neurons.dsr import DSRIF
from spikewright.rules import DSR, IDE
from spikewright.rules.rates.norms import NormName
from spikewright.solvers import Anderson, Broyden, FixedPoint, Report
from tests.nets import NETS, lif, sample
from tests.oracles import rate
from tests.oracles.compare import assert_agree, relative
from tests.oracles.equilibrium import equilibrium, finite_difference
from tests.oracles.loops import clearance, distance, order, settled
from tests.oracles.machine import Machine, Params
from tests.oracles.rate_machine import Cell, Cells, RateMachine
from tests.rules.support import CE as PER_STEP
from tests.rules.support import NOISY, assert_identical, collected, gradients, learn
from tests.solvers.loops import (
    LOOPS,
    Net,
    chain,
    chained,
    growing,
    load,
    masked,
    masked_net,
    normed,
    normed_net,
    of_synapse_net,
    plain,
)

CE = F.cross_entropy
EXACT = Broyden(200)
TRAINED = partial(DSRIF, threshold=0.8, firing_fraction=0.4)
CELLS = dict.fromkeys("123", Cell(0.8, 0.4, amplitude=0.8))
LAST_TO_FIRST = {"back": (3, 1)}
THRESHOLDS = Net(partial(chained, 3, LAST_TO_FIRST, TRAINED), partial(chain, depth=3, backs=LAST_TO_FIRST), (5,))


def some(grads: Params, like: Params) -> Params:
    """The gradients that a program knows of."""
    return {name: grads[name] for name in like}


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("name", [*LOOPS, "thresholds"])
def test_the_gradient_is_that_of_a_dense_solution(name: str, seed: int) -> None:
    net = LOOPS.get(name, THRESHOLDS)
    module, params, x, y = net.draw(seed)
    cells = CELLS if net is THRESHOLDS else None
    expected = rate.gradients(net.program, params, growing(x), y, CE, cells=cells)
    assert_agree(some(plain(gradients(IDE(EXACT), module, growing(x), y)), expected), expected, 1e-9)
    cut = some(plain(gradients(IDE(FixedPoint(1)), module, growing(x), y)), expected)
    assert max(relative(cut, expected).values()) > 1e-2


def by_threshold(program: Callable, params: Params, x: Tensor, y: Tensor, layer: str, step: float = 1e-5) -> Tensor:
    """Central differences by the threshold of a layer of trained ones."""

    def loss(threshold: float) -> Tensor:
        cells: Cells = CELLS | {layer: Cell(threshold, 0.4, amplitude=threshold)}
        return CE(equilibrium(program, params, x, cells)[0], y)

    return (loss(0.8 + step) - loss(0.8 - step)) / (2 * step)


@pytest.mark.parametrize("depth, seed, neuron", [(1, 5, IF), (2, 31, IF), (3, 31, IF), (2, 23, TRAINED)])
@pytest.mark.long
def test_rates_and_gradients_tend_to_those_of_the_equilibrium(
    depth: int, seed: int, neuron: Callable[[], Neuron]
) -> None:
    backs = {"back": (depth, 1)}
    program, (params, x, y) = partial(chain, depth=depth, backs=backs), settled(seed, depth)
    cells = CELLS if neuron is TRAINED else None
    output, settles = equilibrium(program, params, x, cells)
    assert clearance(settles, 0.8 if cells else 1.0) > 0.015
    expected = {name: finite_difference(program, params, x, y, CE, name, cells) for name in params}
    if cells:
        expected |= {f"{key}.threshold": by_threshold(program, params, x, y, key) for key in "12"}
        assert min(expected["1.threshold"].abs(), expected["2.threshold"].abs()) > 0.01
    module, steps = load(chained(depth, backs, neuron), params), (30, 100, 300, 1000, 3000)
    errors, misses = [], []
    for n in steps:
        module.zero_grad()
        (update,) = learn(IDE(), module, x.expand(n, *x.shape), y)
        assert update.report is not None and update.report.converged
        errors.append(distance(plain(collected(module)), expected))
        misses.append(float((update.output.mean(0) - output).norm()))
    assert order(steps, errors) == pytest.approx(-1, abs=0.15) and errors[-1] < 3e-3, errors
    assert order(steps, misses) == pytest.approx(-1, abs=0.15) and misses[-1] < 3e-3, misses


@pytest.mark.parametrize(
    "name", [name for name in NETS if name not in ("feedback", "hard_reset", "delayed")] + ["noisy"]
)
@pytest.mark.parametrize("batch_norm", ["rate", "running"])
def test_without_feedback_it_is_dsr_to_the_last_bit(name: str, batch_norm: NormName) -> None:
    module = NOISY["mlp"](step_dropout=False) if name == "noisy" else NETS[name](0)  # type: ignore[call-arg]
    data = sample("mlp" if name == "noisy" else name, 0)
    found = [gradients(rule(batch_norm=batch_norm), deepcopy(module), *data) for rule in (IDE, DSR)]
    assert_identical(*found)
    assert any(grad.any() for grad in found[0].values())


def test_an_idle_feedback_is_dsr_elsewhere() -> None:
    _, params, x, y = LOOPS["three layers"].draw(0)
    params |= {name: 0 * p for name, p in params.items() if name.startswith("back")}
    idle, none = load(chained(3, LAST_TO_FIRST), params), load(chained(3, {}), params)
    found, expected = plain(gradients(IDE(), idle, growing(x), y)), gradients(DSR(), none, growing(x), y)
    assert_agree(some(found, expected), expected)
    assert found["back.weight"].norm() > 1e-2


def test_one_mask_in_the_simulation_and_in_the_gradient() -> None:
    module, params, x, y = Net(masked_net, masked).draw(0)
    (update,) = learn(IDE(EXACT), module, growing(x), y)
    masks = {site: carried["mask"] for site, carried in update.state.items() if "mask" in carried}
    assert all(mask.unique().tolist() == pytest.approx([0, 1 / 0.7]) for mask in masks.values()) and len(masks) == 3
    expected = rate.gradients(partial(masked, masks=masks), params, growing(x), y, CE)
    assert_agree(plain(collected(module)), expected, 1e-9)


@pytest.mark.parametrize("restrict", [restrict_spectral, restrict_frobenius])
def test_a_restriction_is_differentiated_as_what_it_is(restrict: Callable[..., nn.Module]) -> None:
    module, params, x, y = LOOPS["three layers"].draw(0)
    layer = restrict(module.get_submodule("back.transform"), limit=0.4)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    other = load(chained(3, LAST_TO_FIRST), params | {"back.weight": weight.detach()})
    expected = gradients(IDE(EXACT), other, growing(x), y)
    raw = [name for name, _ in layer.named_parameters() if name.startswith("parametrizations")]
    parts = torch.autograd.grad(
        weight, [layer.get_parameter(name) for name in raw], expected.pop("back.transform.weight")
    )
    expected |= {f"back.transform.{name}": part for name, part in zip(raw, parts)}
    assert_agree(gradients(IDE(EXACT), module, growing(x), y), expected, 1e-7)  # as far as power iteration converges
    assert all(part.any() for part in parts)


@pytest.mark.parametrize("restriction", ["spectral", "frobenius"])
def test_evaluation_repeats_and_leaves_no_mark(restriction: Restriction) -> None:
    net = FeedbackNet((2, 8, 8), 4, IF, layers=("4C3s", "3C3"), back=3, dropout=0.3, restriction=restriction).eval()
    x, y = torch.rand(8, 3, 2, 8, 8), torch.tensor([0, 1, 3])
    before, passes = deepcopy(net.state_dict()), []
    for _ in range(2):
        net.zero_grad()
        (update,) = learn(IDE(), net, x, y)
        passes.append({"output": update.output, **collected(net)})
    assert_identical(*passes)
    assert_identical(net.state_dict(), before)
    with torch.no_grad():
        assert torch.equal(Network(net).run(x)[0], passes[0]["output"])


class Witness(Broyden):
    """Notes how many problems it was given, of which size."""

    shape: torch.Size

    def solve(self, product: Callable[[Tensor], Tensor], g: Tensor) -> tuple[Tensor, Report]:
        self.shape = g.shape
        return super().solve(product, g)


@pytest.mark.parametrize("batch_norm, shape", [("rate", (1, 60)), ("running", (6, 10))])
def test_batch_statistics_couple_the_samples(batch_norm: NormName, shape: tuple[int, int]) -> None:
    module, params, x, y = Net(normed_net, normed).draw(1, batch=6)
    for name in ("norm1", "norm2"):
        layer = module.get_submodule(name)
        layer.load_state_dict(layer.state_dict() | {"running_mean": 0.2 * torch.randn(12 - 2 * (name[-1] == "2"))})
    params |= {f"{name}.bias": 0 * params[f"{name}.bias"] for name in ("in", "forth")}
    statistics = {name: buffer.clone() for name, buffer in module.named_buffers()}
    program = partial(normed, statistics=statistics, of_batch=batch_norm == "rate")
    expected = rate.gradients(program, params, growing(x), y, CE)
    solver = Witness(400, memory=100)
    found = plain(gradients(IDE(solver, batch_norm=batch_norm), module, growing(x), y))
    assert_agree(found, some(expected, found), 1e-9)
    assert solver.shape == shape and all(grad.norm() > 1e-3 for grad in found.values())

    _, layers = RateMachine(params).simulate(program, growing(x))
    for name, current in (
        ("norm1", x @ params["in.weight"].T),
        ("norm2", layers["1"].output @ params["forth.weight"].T),
    ):
        for kind, of_batch in (("mean", current.mean(0)), ("var", current.var(0))):
            updated = 0.9 * statistics[f"{name}.running_{kind}"] + 0.1 * of_batch
            torch.testing.assert_close(module.get_buffer(f"{name}.running_{kind}"), updated)


def steady(gain: float, rate: float) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer that feeds back to itself by `gain`, whose neurons fire at a given rate."""
    params, x, y = settled(0, depth=1)
    params |= {"in.weight": 0 * params["in.weight"], "in.bias": 0 * params["in.bias"] + (1 - gain) * rate}
    params |= {"back.weight": gain * torch.eye(6), "back.bias": 0 * params["back.bias"]}
    return load(chained(1, {"back": (1, 1)}), params), x.expand(60, *x.shape), y


def test_what_does_not_converge_is_said() -> None:
    module, x, y = steady(gain=-3.0, rate=0.25)
    (update,) = learn(IDE(FixedPoint()), module, x, y)
    assert 0.1 < update.rates["1"] < 0.5 and update.report is not None and not update.report.converged
    assert "does not contract. Restrict the norm of its weights" in update.report.reason
    module.zero_grad()
    message = (
        r"IDE\(strict=True\): After .* the feedback does not contract. Restrict the norm of its weights \(spikewrig"
    )
    with pytest.raises(NotConverged, match=message):
        learn(IDE(FixedPoint(), strict=True), module, x, y)
    assert all(parameter.grad is None for parameter in module.parameters())
    (update,) = learn(IDE(Anderson(), strict=True), module, x, y)
    assert update.report is not None and update.report.converged


@pytest.mark.long
def test_a_slow_loop_needs_iterations() -> None:
    module, x, y = steady(gain=0.95, rate=0.5)
    with pytest.raises(NotConverged, match=r"the feedback contracts slowly. Restrict .* or allow more iterations"):
        learn(IDE(FixedPoint(5), strict=True), module, x, y)
    assert learn(IDE(FixedPoint(1000), strict=True), module, x, y)


def test_frozen_parts_change_nothing_elsewhere() -> None:
    module, _, x, y = LOOPS["crossing"].draw(1)
    free = gradients(IDE(EXACT), module, growing(x), y)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("back" in name)
    found = gradients(IDE(EXACT, strict=True), module, growing(x), y)
    assert_agree({name: found[name] for name in found if "back" in name}, {n: free[n] for n in found if "back" in n})
    module.requires_grad_(False).get_submodule("out").requires_grad_(True)
    found = gradients(IDE(EXACT, strict=True), module, growing(x), y)
    assert_agree({name: found[name] for name in ("out.weight", "out.bias")}, {n: free[n] for n in free if "out" in n})


def test_what_has_no_equilibrium_of_rates_is_refused() -> None:
    def refused(module: nn.Module, message: str, rule: IDE | DSR | None = None) -> None:
        with pytest.raises(IncompatibleRule, match=message):
            learn(rule or IDE(), module.double(), *sample("mlp", 0))

    refused(NETS["hard_reset"](0), "IDE learns from rates, but '1' has a hard reset.* Use reset='subtract'")
    mixed = of_synapse_net("forth", partial(lif, 2.0), partial(lif, 5.0))
    refused(
        mixed, "IDE takes the mean of what 'back' sends back.* its source is Linear, .*different leaks. Take the feed"
    )
    refused(
        normed_net(), r"IDE\(batch_norm='joint'\) needs the currents of all steps at 'norm1'", IDE(batch_norm="joint")
    )
    noisy = Feedback(nn.Sequential(nn.Linear(12, 12), StepDropout(0.5)), source="2")
    refused(
        nn.Sequential(nn.Linear(8, 12), noisy, IF(), nn.Linear(12, 4)), r"'1.transform.1' draws a fresh mask at every"
    )
    refused(NETS["feedback"](0), "DSR differentiates layer after layer, but '1' feeds back.* Use IDE", DSR())
    with pytest.raises(IncompatibleRule, match=r"needs the output of each step. Use OnRate"):
        learn(IDE(), NETS["feedback"](0), *sample("feedback", 0), loss=PER_STEP)


class Joined(nn.Module):
    """One feedback module at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.forth, self.out = nn.Linear(8, 9), nn.Linear(9, 9), nn.Linear(9, 4)
        self.first, self.last = IF(), IF()
        self.back = Feedback(nn.Linear(9, 9), source="last")

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.back(self.forth(self.first(self.back(self.enter(x)))))))


def test_one_feedback_at_two_places() -> None:
    def program(x: Tensor, net: Machine) -> Tensor:
        sent = net.last("2")
        back = 0 if sent is None else net.syn("back", sent)
        s = net.lif("1", back + net.syn("enter", x, post="1"), torch.inf)
        return net.syn("out", net.lif("2", back + net.syn("forth", s), torch.inf))

    module, params, x, y = Net(Joined, program).draw(0)
    (update,) = learn(IDE(EXACT), module, growing(x), y)
    simulated = torch.stack(list(Machine(params, cut=True).run(program, growing(x))))
    torch.testing.assert_close(update.output, simulated.detach())
    assert_agree(plain(collected(module)), rate.gradients(program, params, growing(x), y, CE), 1e-9)
