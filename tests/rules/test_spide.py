"""SPIDE: the second phase of a network, and what it learns from."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import NotConverged
from spikewright.losses import OnRate
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.network.rates import Rate, Record
from spikewright.neurons import IF, LIF, Neuron
from spikewright.rules import DSR, IDE, SPIDE, Rule
from spikewright.solvers import Adjoint, Broyden, Report, Spiking
from tests.oracles import spide
from tests.oracles.compare import assert_agree
from tests.oracles.equilibrium import equilibrium
from tests.oracles.loops import distance, order, settled
from tests.oracles.machine import Params
from tests.oracles.rate_machine import Cell
from tests.rules.support import assert_identical, collected, gradients, learn
from tests.solvers.loops import LOOPS, Net, chain, chained, growing, load, masked, masked_net, normed, normed_net, plain

CE = F.cross_entropy
EXACT = IDE(Broyden(200), mask="output", batch_norm="running")
NEURON = {"threshold": 1.0, "rest": -1.0, "gain": 1.25, "amplitude": 0.75}
SLOPE = 0.75 * 1.25 / 2
WITHOUT_LEAK = partial(IF, **NEURON)
LEAKY = partial(LIF, tau=5.0, **NEURON)


class Witness(Spiking):
    """Notes what layers send back: the spikes of every couple, `given`, and their means, `means`.

    `taught` is what the loss itself says to each layer, and `held` the most tensors of spikes that were kept at a time.
    """

    def loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report]:
        self.given: list[Tensor] = []
        self.taught: list[Tensor | None] = []
        self.held, alive = 0, list[weakref.ref[Tensor]]()
        cells, grad, self.awake = adjoint.cells, torch.autograd.grad, torch.ones(len(adjoint.cells[0].leaf)).bool()

        def part(awake: Tensor) -> Adjoint:
            nonlocal cells
            assert adjoint.part is not None
            self.awake, smaller = awake, adjoint.part(awake)
            cells = smaller.cells
            return smaller

        def noted(outputs: Sequence[Tensor], inputs: Sequence[Tensor], given: Any = None, **options: bool) -> Any:
            with patch.object(torch.autograd, "grad", grad):  # which layers may use on their own account
                if given is None or given[0] is None:
                    assert not self.taught and outputs[0] is value  # the loss is asked once
                    self.taught = list(grad(outputs, inputs, given, **options))
                    return self.taught
                assert len(outputs) == 1 and any(outputs[0] is cell.emitted for cell in cells)
                self.given.append(given[0].clone())
                alive[:] = [spikes for spikes in alive if spikes() is not None] + [weakref.ref(given[0])]
                self.held = max(self.held, len(alive))
                return grad(outputs, inputs, given, **options)

        with patch.object(torch.autograd, "grad", noted):
            total, report = super().loss(value, replace(adjoint, part=part))
        self.scale, self.means = self.loss_scale * len(self.awake), Params()
        for cell, mean in zip(cells, grad([total], [cell.emitted for cell in cells], retain_graph=True)):
            self.means[cell.site] = torch.zeros(len(self.awake), *mean.shape[1:])
            self.means[cell.site][self.awake] = self.scale * mean
        return total, report


def ring(
    depth: int,
    seed: int = 2,
    batch: int = 16,
    neuron: Callable[[], Neuron] = WITHOUT_LEAK,
    reset_amount: float = 2.0,
) -> tuple[nn.Module, Params, Tensor, Tensor]:
    """A chain whose last layer feeds back to the first: module, parameters, 25 equal steps of input, classes."""
    params, x, y = settled(seed, depth, reset_amount, batch)
    return load(chained(depth, {"back": (depth, 1)}, neuron), params), params, x.expand(25, *x.shape), y


def recorded(module: nn.Module, x: Tensor, depth: int) -> tuple[dict[str, Rate], dict[str, Tensor]]:
    """The rates of a simulation, and the potentials that it ends with."""
    record = Record()
    with torch.no_grad():
        run = Network(module).start(x, record=record)
        run.advance(x)
    keys = [str(layer) for layer in range(1, depth + 1)]
    return record.rates(run.state).neurons, {key: run.state[key]["membrane"] for key in keys}


def weights(steps: int, leak: float) -> float:
    return sum(leak**age for age in range(steps))


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("leaky", [False, True])
def test_it_is_the_explicit_second_phase(name: str, leaky: bool) -> None:
    module, params, x, y = LOOPS[name].draw(0)
    frames = x.expand(12, *x.shape)
    found = plain(gradients(SPIDE(40, threshold=0.75, loss_scale=1.5, leaky=leaky), module, frames, y))
    expected = spide.spide(LOOPS[name].program, params, frames, y, CE, 40, 0.75, 1.5 * len(y), leaky)
    assert_agree({key: found[key] for key in expected}, expected, 1e-10)
    assert all(found[key].norm() > 1e-3 for key in expected)


@pytest.mark.parametrize("leaky", [False, True])
def test_masks_and_fixed_statistics_belong_to_both_phases(leaky: bool) -> None:
    module, params, x, y = Net(masked_net, masked).draw(0)
    (update,) = learn(SPIDE(40, loss_scale=1.5, leaky=leaky), module, x.expand(12, *x.shape), y)
    masks = {site: carried["mask"] for site, carried in update.state.items() if "mask" in carried}
    run = x.expand(12, *x.shape), y, CE, 40, 0.5, 1.5 * len(y), leaky
    assert_agree(plain(collected(module)), spide.spide(partial(masked, masks=masks), params, *run), 1e-10)
    module, params, x, y = Net(normed_net, normed).draw(0)
    params |= {f"{name}.bias": 0 * params[f"{name}.bias"] for name in ("in", "forth")}
    program = partial(normed, statistics={k: b.clone() for k, b in module.named_buffers()}, of_batch=False)
    found = plain(gradients(SPIDE(40, loss_scale=1.5), module, x.expand(12, *x.shape), y))
    expected = spide.spide(program, params, x.expand(12, *x.shape), y, CE, 40, 0.5, 1.5 * len(y))
    assert_agree(found, {key: expected[key] for key in found}, 1e-10)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("tau", [None, 5.0])
def test_the_rates_of_the_first_phase_obey_their_identities(depth: int, tau: float | None) -> None:
    """`R o_1 / A = k (x + Z[T-1] / Z[T] (W o'_N + c)) - v_1 / Z[T]`, and `R o_l / A = k F o_(l-1) - v_l / Z[T]`."""
    module, params, x, _ = ring(depth, neuron=LEAKY if tau else WITHOUT_LEAK)
    rates, potentials = recorded(module, x, depth)
    earlier, _ = recorded(module, x[:-1], depth)
    leak = 1 - 1 / tau if tau else 1.0
    now, before = weights(25, leak), weights(24, leak)
    sent = earlier[str(depth)].output @ params["back.weight"].T + params["back.bias"]
    current = x[0] @ params["in.weight"].T + params["in.bias"] + before / now * sent
    for key, o in rates.items():
        torch.testing.assert_close(o.current, current, rtol=1e-12, atol=1e-12)
        charge = 1.25 * current - potentials[key] / now
        torch.testing.assert_close(2 * o.output / 0.75, charge, rtol=1e-12, atol=1e-12)
        if key != str(depth):
            current = o.output @ params[f"forth{key}.weight"].T + params[f"forth{key}.bias"]


def taught(params: Params, top: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The slopes of the cross-entropy in the readout, and in the rates it reads."""
    error = (torch.softmax(top @ params["out.weight"].T + params["out.bias"], 1) - F.one_hot(y, 4)) / len(y)
    return error, error @ params["out.weight"]


def passing(rates: dict[str, Rate]) -> Params:
    """The slope of each layer: of neurons that fire at some steps, but not at all."""
    shares = {key: of.output / 0.75 for key, of in rates.items()}
    return {key: SLOPE * ((share > 1e-9) & (share < 1 - 1e-9)).double() for key, share in shares.items()}


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("tau, leaky", [(None, False), (5.0, False), (5.0, True)])
def test_the_rates_of_the_second_phase_obey_their_identities(depth: int, tau: float | None, leaky: bool) -> None:
    """`beta_N = S g + W^T m_1 beta'_1 - u_N / Z` and `beta_l = F_l^T m_(l+1) beta_(l+1) - u_l / Z`.

    What comes over the feedback lacks the last step, `beta'_1 = (beta_1 - s_1[T] / Z) / leak`. The potentials that
    this leaves in the couples are the right ones: with them the next spikes are foretold.
    """
    steps, leak = 40, 1 - 1 / tau if tau and leaky else 1.0
    module, params, x, y = ring(depth, neuron=LEAKY if tau else WITHOUT_LEAK)
    rates, _ = recorded(module, x, depth)
    slope, sums = passing(rates), list[Params]()
    for n in (steps - 1, steps, steps + 1):
        witness = Witness(n, 0.5, 0.2, leaky)
        learn(IDE(witness, mask="output"), module, x, y)
        sums.append({key: weights(n, leak) * mean for key, mean in witness.means.items()})
    last, following = ({key: b[key] - leak * a[key] for key in a} for a, b in pairwise(sums))
    scale, total = 0.2 * len(y), weights(steps, leak)
    beta = {key: mean / total for key, mean in sums[1].items()}
    g = scale * taught(params, rates[str(depth)].output, y)[1]
    for level in range(depth, 0, -1):
        key, above = str(level), str(level + 1)
        if level == depth:
            late = (beta["1"] - last["1"] / total) / leak
            expected = g + (slope["1"] * late) @ params["back.weight"]
            drive = g + (slope["1"] * last["1"]) @ params["back.weight"]
        else:
            expected = (slope[above] * beta[above]) @ params[f"forth{key}.weight"]
            drive = (slope[above] * following[above]) @ params[f"forth{key}.weight"]
        charged = leak * total * (expected - beta[key]) + drive
        foretold = (charged >= 0.5).double() - (charged <= -0.5).double()
        torch.testing.assert_close(following[key], foretold, rtol=0, atol=1e-9)
        assert sums[1][key].any()
    assert any(spikes.any() for spikes in last.values()) and any(spikes.any() for spikes in following.values())


@pytest.mark.parametrize("depth", [1, 3])
def test_only_spikes_cross_layers_and_every_weight_learns_from_two_rates(depth: int) -> None:
    module, params, x, y = ring(depth)
    x.requires_grad_()
    witness = Witness(60, 0.75, 0.3)
    learn(IDE(witness, mask="output"), module, x, y)
    assert x.grad is None
    sent = torch.stack([given.flatten() for given in witness.given])
    assert sent.unique().tolist() == [-1.5, 0, 1.5] and len(sent) > 40 * depth
    assert [slope is not None for slope in witness.taught] == [False] * (depth - 1) + [True, False]

    rates, _ = recorded(module, x.detach(), depth)
    slope = passing(rates)
    error, g = taught(params, rates[str(depth)].output, y)
    top = witness.taught[depth - 1]
    assert top is not None
    torch.testing.assert_close(top, g, rtol=1e-12, atol=1e-15)
    expected = {"out.weight": error.T @ rates[str(depth)].output, "out.bias": error.sum(0)}
    for key in rates:
        delta = slope[key] * witness.means[key] / witness.scale
        joined = {"in": x[0].detach(), "back": rates[str(depth)].output}
        for name, source in (
            joined.items() if key == "1" else [(f"forth{int(key) - 1}", rates[f"{int(key) - 1}"].output)]
        ):
            expected |= {f"{name}.weight": delta.T @ source, f"{name}.bias": delta.sum(0)}
    assert_agree(plain(collected(module)), expected)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.long
def test_it_tends_to_ide_as_one_over_the_steps(depth: int) -> None:
    steps, errors = (32, 100, 316, 1000), []
    for seed in range(2):
        module, _, x, y = ring(depth, seed, neuron=partial(IF, rest=-1.0))
        expected = gradients(EXACT, module, x, y)
        for n in steps:
            module.zero_grad()
            (update,) = learn(SPIDE(n, loss_scale=0.25), module, x, y)
            assert update.report is not None and update.report.saturated < 0.02
            errors.append(distance(collected(module), expected))
    means = torch.tensor(errors).view(2, -1).mean(0).tolist()
    assert order(steps, means) == pytest.approx(-1, abs=0.15) and means[-1] < 4e-3, means


@pytest.mark.long
def test_the_scale_does_not_change_the_limit() -> None:
    module, _, x, y = ring(2)
    expected, one = gradients(EXACT, module, x, y), gradients(SPIDE(300, 0.5, 0.2), module, x, y)
    for scale in (0.05, 0.2):
        assert distance(gradients(SPIDE(1500, loss_scale=scale), module, x, y), expected) < 1e-2
    assert distance(one, expected) > 2e-3
    assert_identical(gradients(SPIDE(300, 1.0, 0.4), module, x, y), one)


def test_a_batch_is_the_mean_of_its_halves() -> None:
    module, _, x, y = ring(3)
    rule = SPIDE(50, loss_scale=0.2)
    whole, *halves = (gradients(rule, module, x[:, part], y[part]) for part in (slice(16), slice(8), slice(8, 16)))
    assert_agree({name: (halves[0][name] + halves[1][name]) / 2 for name in whole}, whole)


class Parts(Spiking):
    """Notes which samples it is to keep; or keeps them all."""

    def __init__(self, leaves_out: bool) -> None:
        super().__init__(30, loss_scale=0.5)
        self.leaves_out, self.awake = leaves_out, list[bool]()

    def loss(self, value: Tensor, adjoint: Adjoint) -> tuple[Tensor, Report]:
        def part(awake: Tensor) -> Adjoint:
            assert adjoint.part is not None
            self.awake = awake.tolist()
            return adjoint.part(awake)

        return super().loss(value, replace(adjoint, part=part if self.leaves_out else None))


@pytest.mark.parametrize("name", ["three layers", "crossing", "of readout", "shrinking", "masked"])
def test_samples_that_cannot_make_a_couple_fire_may_be_left_out(name: str) -> None:
    module, _, x, y = Net(masked_net, masked).draw(0, 8) if name == "masked" else LOOPS[name].draw(0, 8)
    share = torch.tensor([1.0, 0.0, 0.3, 1e-3, 1e-9, 1.0, 0.0, 3.0])
    loss = OnRate(lambda output, target: (share * F.cross_entropy(output, target, reduction="none")).mean())
    found, reports, solvers = [], [], [Parts(leaves_out=True), Parts(leaves_out=False)]
    for solver in solvers:
        torch.manual_seed(1)
        module.zero_grad()
        (update,) = learn(IDE(solver, mask="output"), module, growing(x), y, loss)
        found.append({key: grad.clone() for key, grad in collected(module).items()})
        reports.append(replace(update.report or Report(), residual=0.0))
    assert_agree(*found)
    assert reports[0] == replace(reports[1], rates=pytest.approx(reports[1].rates))
    assert solvers[0].awake == [True, False, True, False, False, True, False, True]


@pytest.mark.parametrize("leaky", [False, True])
def test_the_opposite_loss_has_the_opposite_gradient(leaky: bool) -> None:
    module, _, x, y = ring(3, neuron=LEAKY)
    rule = SPIDE(50, loss_scale=0.2, leaky=leaky)
    there = gradients(rule, module, x, y)
    back = gradients(rule, module, x, y, OnRate(lambda output, target: -CE(output, target)))
    assert_identical(back, {name: -grad for name, grad in there.items()})
    assert all(grad.any() for grad in there.values())


def test_it_is_ide_with_couples() -> None:
    module, _, x, y = ring(2)
    solver = Spiking(30, threshold=0.4, loss_scale=0.3, leaky=True)
    rule = IDE(solver, mask="output", batch_norm="running")
    assert_identical(gradients(SPIDE(30, 0.4, 0.3, True), module, x, y), gradients(rule, module, x, y))


@pytest.mark.long
def test_saturation_is_reported_and_does_not_go_away() -> None:
    module, _, x, y = ring(2, neuron=partial(IF, rest=-1.0))
    expected, errors = gradients(EXACT, module, x, y), []
    for steps in (100, 1000):
        module.zero_grad()
        (update,) = learn(SPIDE(steps, loss_scale=4.0), module, x, y)
        report = update.report
        assert report is not None and not report.converged and report.iterations == steps
        assert report.saturated > 0.1 and "pairs at '2' are saturated" in report.reason
        assert "Lower loss_scale (4), or restrict the feedback if it does not contract." in report.reason
        errors.append(distance(collected(module), expected))
    assert errors[0] > 0.1 and errors[1] == pytest.approx(errors[0], rel=0.1)
    module.zero_grad()
    message = r"SPIDE\(strict=True\): \d+.\d% of the pairs at '2' are saturated: .* more than the 1 they can send"
    with pytest.raises(NotConverged, match=message):
        learn(SPIDE(100, loss_scale=4.0, strict=True), module, x, y)
    assert all(parameter.grad is None for parameter in module.parameters())
    (update,) = learn(SPIDE(1000, threshold=10.0, loss_scale=4.0, strict=True), module, x, y)
    assert update.report is not None and update.report.saturated == 0
    assert distance(collected(module), expected) < 0.02


def test_an_error_that_is_too_small_is_silent() -> None:
    module, _, x, y = ring(2)
    shares = []
    for scale in (1e-4, 0.02, 0.4):
        module.zero_grad()
        (update,) = learn(SPIDE(50, loss_scale=scale), module, x, y)
        assert update.report is not None and update.report.converged
        shares.append(update.report.silent)
        learned = [name for name, grad in collected(module).items() if grad.any()]
        assert learned == (["out.weight", "out.bias"] if scale == 1e-4 else list(collected(module)))
    assert shares[0] == 1 > shares[1] > 0.1 > shares[2]


@pytest.mark.parametrize("rule", [SPIDE(), IDE(mask="output"), DSR()], ids=repr)
@pytest.mark.parametrize("current", [-100.0, 100.0])
def test_a_batch_that_teaches_nothing_is_told_of_once(rule: Rule, current: float) -> None:
    """Neurons that are silent or at their largest rate have no slope; at the output no error gets past them."""
    module = nn.Sequential(nn.Linear(4, 3), IF())
    nn.init.constant_(module[0].bias, current)
    net, x, y = Network(module), torch.rand(2, 3, 4), torch.arange(3)
    with pytest.warns(UserWarning, match=r"has learned nothing from a batch: errors end at '1'.*silent or at their"):
        list(rule.updates(net, x, y, OnRate(nn.CrossEntropyLoss())))
    list(rule.updates(net, x, y, OnRate(nn.CrossEntropyLoss())))  # warnings are errors in tests
    list(rule.updates(Network(module, known=["1"]), x, y, OnRate(nn.CrossEntropyLoss())))


@pytest.mark.long
def test_memory_depends_on_neither_number_of_steps() -> None:
    peaks = []
    for first, second in ((10, 10), (1000, 10), (10, 1000)):
        module, _, x, y = ring(2)
        with SavedBytes() as saved:
            learn(SPIDE(second, loss_scale=0.2), module, x[:1].expand(first, -1, -1), y)
        peaks.append(saved.peak)
    assert peaks[0] == peaks[1] == peaks[2] > 0
    witness = Witness(50, loss_scale=0.2)
    module, _, x, y = ring(2)
    learn(IDE(witness, mask="output"), module, x, y)
    assert len(witness.given) > 50 and witness.held <= 2


@pytest.mark.long
def test_a_rest_below_zero_removes_the_bias_of_the_rates() -> None:
    bias = {}
    for rest, reset_amount in ((-1.0, 2.0), (0.0, 1.0)):
        found = []
        for seed in range(10):
            module, params, x, _ = ring(3, seed, 48, partial(IF, rest=rest), reset_amount)
            rates, _ = recorded(module, x[:1].expand(30, -1, -1), 3)
            program, cells = partial(chain, depth=3, backs={"back": (3, 1)}), dict.fromkeys("123", Cell(reset_amount))
            settles = equilibrium(program, params, x[0], cells)[1].now
            found.append(torch.stack([(rates[key].output - settles[key]).mean() for key in "123"]))
        bias[rest] = 30 * torch.stack(found).mean(0)
    assert (bias[-1.0].abs() < 0.05).all() and (bias[0.0] < -0.3).all(), bias
