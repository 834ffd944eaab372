"""The penalty on firing rates, beside networks that return their spikes to a criterion that computes it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import FiringRatePenalty, FirstSpike, LastStep, Loss, MaxOverTime, OnRate, PerStep, SpikeCount
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.neurons import ALIF, CUBALIF, DSRIF, IF, LI, LIF, Neuron
from spikewright.rules import (
    BPTT,
    DSR,
    EWC,
    IDE,
    OPZO,
    OTTT,
    SLTT,
    SPIDE,
    LwF,
    OnlineRule,
    Replay,
    Rule,
    Traits,
)  # fmt: skip
from spikewright.rules._batch import Batch
from spikewright.solvers import FixedPoint
from spikewright.spatial import DFA, DKP, FA, ZO, Local, SignSymmetric
from tests.catalogue import RULES, Entry

STEPS, CLASSES = 6, 3
X = 2 * torch.rand(STEPS, 5, 4, generator=torch.Generator().manual_seed(1)).double()
Y = torch.tensor([2, 0, 1, 0, 1])
LENGTHS = torch.tensor([6, 2, 4, 1, 3])
PENALTY = FiringRatePenalty(lower=0.4, upper=0.5, lower_strength=3.0, upper_strength=5.0)
CE = F.cross_entropy
every_rule = pytest.mark.parametrize("entry", RULES, ids=str)


class Net(nn.Module):
    """Two layers of neurons and a readout; `shows` also returns the spikes, and `cuts` passes on no gradient."""

    def __init__(self, make: Callable[[], Neuron] = LIF, loop: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.out = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, CLASSES)
        self.a, self.b = make(), make()
        self.back = sw.Feedback(nn.Linear(6, 8), self.b) if loop else nn.Identity()
        self.shows = self.cuts = False
        for p in self.parameters():
            if p.dim():
                nn.init.normal_(p, 0.05, 0.4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(self.back(self.one(x)))
        b = self.b(self.two(a.detach() if self.cuts else a))
        out = self.out(b.detach() if self.cuts else b)
        return torch.cat([out, a, b], -1) if self.shows else out


def by_hand(*rates: Tensor, strengths: tuple[float, float] = (3.0, 5.0)) -> Tensor:
    """The penalty of every sample."""
    each = [strengths[0] * F.relu(0.4 - r) ** 2 + strengths[1] * F.relu(r - 0.5) ** 2 for r in rates]
    return torch.stack([e.sum(1) / e.shape[1] for e in each]).sum(0)


def apart(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return output[:, :CLASSES], output[:, CLASSES:-6], output[:, -6:]


class OfRates:
    """Criterion of mean outputs, which adds the penalty; spikes have a size."""

    def __init__(self, size: float = 1.0) -> None:
        self.size = size

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        out, a, b = apart(output)
        return CE(out, y) + by_hand(a / self.size, b / self.size).mean()


class OfSteps:
    """Criterion of the outputs of one step after the other, with the spikes of earlier ones held constant."""

    def __init__(self, steps: int = STEPS) -> None:
        self.seen, self.steps, self.counts, self.before = 0, steps, [0.0, 0.0], torch.zeros(())

    def __call__(self, output: Tensor, y: Tensor) -> Tensor:
        out, *spikes = apart(output)
        self.seen += 1
        counts = [before + s for before, s in zip(self.counts, spikes)]
        now = self.seen / self.steps * by_hand(*(c / self.seen for c in counts)).mean()
        added, self.before, self.counts = now - self.before, now.detach(), [c.detach() for c in counts]
        return CE(out, y) + self.steps * added


def learned(module: Net, rule: Rule, loss: Loss, x: Tensor = X, y: Tensor = Y, **given: Any) -> tuple[dict, list]:
    torch.manual_seed(7)
    module.zero_grad()
    updates = list(rule.updates(Network(module), x, y, loss, **given))
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}, updates


def total(updates: list, name: str = "loss") -> Tensor:
    return torch.stack([getattr(update, name) for update in updates]).sum()


def agree(found: tuple[dict, list], expected: tuple[dict, list]) -> None:
    for name, grad in expected[0].items():
        torch.testing.assert_close(found[0][name], grad, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(total(found[1]), total(expected[1]), rtol=1e-10, atol=1e-12)


def shown(module: Net, rule: Rule, loss: Loss, **given: Any) -> tuple[dict, list]:
    module.shows = True
    try:
        return learned(module, rule, loss, **given)
    finally:
        module.shows = False


BPTTS = [BPTT(), BPTT(chunk=1), BPTT(chunk=4), BPTT(chunk=4, checkpoint=True)]
NEURONS = {"lif": LIF, "if": IF, "amplitude": partial(IF, amplitude=1.5), "attached": partial(LIF, detach_reset=False)}


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("rule", BPTTS, ids=str)
@pytest.mark.parametrize("neuron", NEURONS)
def test_bptt_takes_the_exact_gradient(rule: BPTT, neuron: str, loop: bool) -> None:
    module = Net(NEURONS[neuron], loop)
    found = learned(module, rule, OnRate(CE, penalty=PENALTY))
    agree(found, shown(module, rule, OnRate(OfRates(1.5 if neuron == "amplitude" else 1.0))))
    plain = learned(module, rule, OnRate(CE))
    torch.testing.assert_close(total(found[1]) - total(plain[1]), total(found[1], "penalty"))
    assert plain[1][0].penalty is None
    assert all((found[0][n] - plain[0][n]).abs().max() > 1e-3 for n in ("one.weight", "two.weight"))


@pytest.mark.parametrize("kind", [PerStep, LastStep, SpikeCount, MaxOverTime])
def test_the_penalty_is_added_to_every_loss(kind: type[Loss]) -> None:
    module = Net()
    with_it, without = (learned(module, BPTT(), kind(CE, penalty=p)) for p in (PENALTY, None))  # type: ignore[call-arg]
    penalty = learned(module, BPTT(), OnRate(lambda o, y: 0 * o.sum(), penalty=PENALTY))
    for name, grad in penalty[0].items():
        torch.testing.assert_close(with_it[0][name] - without[0][name], grad, rtol=1e-9, atol=1e-12)


def test_the_last_layer_of_neurons_may_be_the_output() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), LIF(), nn.Linear(8, 3), LIF()).double()
    (update,) = BPTT().updates(Network(layers), X, Y, FirstSpike(CE, penalty=PENALTY))
    one, two = (Network(layers[: 2 * n]).run(X)[0].mean(0) for n in (1, 2))
    torch.testing.assert_close(update.penalty, by_hand(one, two).mean().detach())


ONLINE: list[Callable[..., Rule]] = [SLTT, OTTT, partial(OTTT, spatial=SignSymmetric()), partial(SLTT, spatial=FA())]


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("make", ONLINE)
@pytest.mark.parametrize("chunk", [1, 4, None])
def test_a_rule_of_steps_takes_the_gradient_at_running_means(make: Callable[..., Rule], chunk: Any, loop: bool) -> None:
    module, rule = Net(loop=loop), make(chunk=chunk)
    found = learned(module, rule, PerStep(CE, penalty=PENALTY))
    expected = shown(module, rule, PerStep(OfSteps()))
    agree(found, expected)
    mean = learned(module, BPTT(), PerStep(CE, penalty=PENALTY))
    torch.testing.assert_close(total(found[1], "penalty"), mean[1][0].penalty)  # the loss is that of BPTT
    assert (found[0]["two.weight"] - learned(module, rule, PerStep(CE))[0]["two.weight"]).abs().max() > 1e-3


CUT: dict[str, Callable[[], OnlineRule]] = {
    "DFA": lambda: OTTT(spatial=DFA()),
    "DKP": lambda: SLTT(spatial=DKP(lr=1.0, decay=0.0)),
    "ZO, pre": lambda: OTTT(spatial=ZO(position="pre")),
    "ZO": lambda: OTTT(spatial=ZO()),
    "DFA, every step": lambda: OTTT(spatial=DFA(), online=True),
    "OPZO": OPZO,
    "OPZO, pre": lambda: OPZO(position="pre"),
}


@pytest.mark.parametrize("name", CUT)
def test_without_errors_through_layers_every_layer_learns_from_its_own_rates(name: str) -> None:
    make = CUT[name]
    module, rule = Net(), make()
    noise = None if rule.spatial.noise is None else rule.spatial.noise.position
    found = learned(module, make(), PerStep(CE, penalty=PENALTY))
    without = learned(module, make(), PerStep(CE))
    if noise != "pre":
        module.cuts = True
        local = OTTT() if isinstance(rule, OTTT) else SLTT()
        alone = learned(module, local, PerStep(lambda o, y: 0 * o.sum(), penalty=PENALTY))
        for name, grad in alone[0].items():
            if noise is None or not name.startswith("two"):  # which sees the noise of the first layer
                torch.testing.assert_close(found[0][name] - without[0][name], grad, rtol=1e-9, atol=1e-11)
    else:
        assert torch.equal(found[0]["out.weight"], without[0]["out.weight"])
    assert (found[0]["one.weight"] - without[0]["one.weight"]).abs().max() > 1e-3
    torch.testing.assert_close(total(found[1]) - total(without[1]), total(found[1], "penalty"))


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("neuron", ["lif", "if", "amplitude"])
@pytest.mark.parametrize("make", [DSR, lambda: IDE(FixedPoint(300, tolerance=1e-14)), lambda: SPIDE(steps=50)])
def test_a_rule_of_rates_takes_the_gradient_at_its_rates(make: Callable[[], Rule], neuron: str, loop: bool) -> None:
    rule = make()
    if loop and isinstance(rule, DSR):
        return
    module = Net(NEURONS[neuron], loop)
    if loop:
        module.back.transform.weight.data *= 0.3  # type: ignore[union-attr]
    found = learned(module, rule, OnRate(CE, penalty=PENALTY))
    agree(found, shown(module, rule, OnRate(OfRates(1.5 if neuron == "amplitude" else 1.0))))
    assert (found[0]["one.weight"] - learned(module, rule, OnRate(CE))[0]["one.weight"]).abs().max() > 1e-4


@every_rule
def test_every_rule_takes_it_and_reports_it(entry: Entry) -> None:
    module = Net(IF)
    loss, plain = (type(entry.loss)(CE, penalty=p) for p in (PENALTY, None))  # type: ignore[call-arg]
    found, without = learned(module, entry.make(), loss), learned(module, entry.make(), plain)
    torch.testing.assert_close(total(found[1]) - total(without[1]), total(found[1], "penalty"))
    assert float(total(found[1], "penalty")) > 1e-3
    assert (found[0]["one.weight"] - without[0]["one.weight"]).abs().max() > 1e-4
    torch.testing.assert_close(found[0]["out.weight"], without[0]["out.weight"], rtol=1e-9, atol=1e-12)


@every_rule
def test_a_scaled_loss_has_scaled_gradients(entry: Entry) -> None:
    if "SPIDE" in str(entry) or entry.noisy or "DKP" in str(entry):
        return  # which fire, draw, or learn matrices, by the size of errors
    module, loss = Net(IF), type(entry.loss)(CE, penalty=PENALTY)  # type: ignore[call-arg]
    one = learned(module, entry.make(), loss)[0]
    many = learned(module, entry.make(), loss, backward=lambda value: (1024 * value).backward())[0]
    for name, grad in one.items():
        torch.testing.assert_close(many[name], 1024 * grad, rtol=1e-9, atol=1e-10)


OF_LENGTHS = [*BPTTS, SLTT(), SLTT(chunk=4), OTTT(), OTTT(spatial=DFA()), OTTT(online=True), DSR(), EWC(BPTT())]


@pytest.mark.parametrize("rule", OF_LENGTHS, ids=str)
def test_padded_sequences_count_as_each_does_alone(rule: Rule) -> None:
    loss = (OnRate if rule.traits.loss == "rate" else PerStep)(CE, penalty=PENALTY)
    module = Net(IF)
    found = learned(module, rule, loss, lengths=LENGTHS)
    each = [learned(module, rule, loss, X[:t, n : n + 1], Y[n : n + 1]) for n, t in enumerate(LENGTHS.tolist())]
    for name, grad in found[0].items():
        torch.testing.assert_close(grad, sum(g[name] for g, _ in each) / 5, rtol=1e-9, atol=1e-12)
    values = [torch.stack([total(updates, kind) for _, updates in each]).mean() for kind in ("loss", "penalty")]
    torch.testing.assert_close([total(found[1], kind) for kind in ("loss", "penalty")], values)


def test_only_named_layers_and_calls() -> None:
    module = Net()
    only = {name: FiringRatePenalty(0.4, 0.5, 3.0, 5.0, layers=(name,)) for name in ("a", "b")}
    parts = [learned(module, BPTT(), OnRate(lambda o, y: 0 * o.sum(), penalty=p)) for p in only.values()]
    both = learned(module, BPTT(), OnRate(lambda o, y: 0 * o.sum(), penalty=PENALTY))
    for name, grad in both[0].items():
        torch.testing.assert_close(parts[0][0][name] + parts[1][0][name], grad)
    assert not parts[0][0]["two.weight"].any() and parts[1][0]["two.weight"].any()
    with pytest.raises(ConfigError, match=r"names 'c', which is no layer of neurons of this network\. .*a, b"):
        learned(module, SLTT(), PerStep(CE, penalty=FiringRatePenalty(upper=0.1, layers=("c",))))


class Shared(nn.Module):
    """The same neurons twice, and neurons whose spikes reach no output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.side, self.out = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(4, 5), nn.Linear(8, 3)
        self.neuron, self.aside = LIF(), LIF()

    def forward(self, x: Tensor) -> Tensor:
        self.aside(self.side(x))
        return self.out(self.neuron(self.two(self.neuron(self.one(x)))))


@pytest.mark.parametrize("rule", [*BPTTS, SLTT(), OTTT(), OTTT(spatial=FA())], ids=str)
def test_layers_that_are_called_twice_or_lead_nowhere(rule: Rule) -> None:
    module = Shared().double()
    net = Network(module)
    names = {layer: None for layer in net.wiring(X).neurons}
    assert names.keys() == {"neuron", "neuron#2", "aside"}
    list(rule.updates(net, X, Y, PerStep(lambda o, y: 0 * o.sum(), penalty=PENALTY)))
    grads = {n: p.grad is not None and bool(p.grad.any()) for n, p in module.named_parameters()}
    assert grads == {n: n.split(".")[0] != "out" for n in grads}


def test_rows_of_a_sample_are_neurons_of_it() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.neuron, self.out = nn.Linear(2, 8), LIF(), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.neuron(self.one(x.reshape(-1, 2))).view(len(x), -1))

    module = Rows().double()
    (update,) = BPTT().updates(Network(module), X, Y, PerStep(CE, penalty=PENALTY))
    with torch.no_grad():
        hidden = Network(nn.Sequential(module.one, module.neuron)).run(X.view(STEPS, 10, 2))[0]
    torch.testing.assert_close(update.penalty, by_hand(hidden.mean(0).view(5, -1)).mean())


@pytest.mark.parametrize("make", [BPTT, SLTT, OTTT, lambda: OTTT(spatial=DFA()), lambda: EWC(SLTT()), lambda: DSR()])
def test_certify_compares_with_bptt_of_the_same_loss(make: Callable[[], Rule]) -> None:
    net, rule = Network(Net(IF)), make()
    loss = (OnRate if rule.traits.loss == "rate" else PerStep)(CE, penalty=PENALTY)
    check = sw.certify(net, rule, X, Y, loss)
    assert check.ok and [row.exact for row in check.rows[:4]] == [rule.traits.credit_through_time] * 4
    ours, theirs = learned(net.module, make(), loss)[0], learned(net.module, BPTT(), loss)[0]  # type: ignore[arg-type]
    for row in check.rows:
        error = float((ours[row.site] - theirs[row.site]).norm() / theirs[row.site].norm())
        assert row.relative_error == pytest.approx(error, rel=1e-6, abs=1e-12)
    if isinstance(rule, SLTT | OTTT) and rule._plain:
        assert all(row.exact for row in check.rows[4:])
        one = sw.certify(net, rule, X[:1], Y, loss)  # of one step, where a running mean is the rate
        assert one.ok and all(row.exact for row in one.rows if row.site.startswith(("out", "two")))


@pytest.mark.parametrize(
    "make", [BPTT, partial(BPTT, chunk=2, checkpoint=True), SLTT, partial(SLTT, chunk=2), OTTT, DSR]
)
def test_plan_counts_the_memory_of_the_penalty(make: Callable[[], Rule]) -> None:
    net, rule = Network(Net(IF)), make()
    kind = OnRate if rule.traits.loss == "rate" else PerStep
    loss = kind(lambda o, y: o.square().mean(), penalty=PENALTY)
    x = X.repeat(3, 1, 1)
    found, plain = (
        {row.steps: row for row in sw.plan(net, rule, x, loss=given, report=(16,)).rows} for given in (loss, None)
    )
    assert {steps: row.measured for steps, row in found.items()} == {2: True, 4: True, 8: True, 16: False, 18: False}
    for steps in (2, 4, 8, *([] if rule.chunk == 2 else [16])):  # of chunks of 2 an upper bound is extrapolated
        with SavedBytes() as saved:
            list(make().updates(net, x[:steps], Y, loss))
        assert found[steps].saved_bytes == saved.peak
    assert found[8].saved_bytes > plain[8].saved_bytes
    grown = (found[8].saved_bytes - plain[8].saved_bytes) / (found[4].saved_bytes - plain[4].saved_bytes)
    assert grown == 1 or (rule.traits.memory != "constant" and grown < 1.2)  # it does not grow with T


def test_a_budget_counts_it_too() -> None:
    net = Network(Net(IF))
    with_it, without = (PerStep(CE, penalty=p) for p in (PENALTY, None))
    sizes = []
    for loss in without, with_it, without:
        rule = SLTT(chunk="80KiB")
        batch = Batch(net, X.repeat(40, 1, 1), Y, loss)
        sizes.append(batch.steps_at_once(rule))
    assert sizes[0] == sizes[2] > sizes[1]


def test_a_rule_around_another_counts_it_once() -> None:
    module = Net()
    net = Network(module)
    loss = PerStep(CE, penalty=PENALTY)
    for make in (lambda: LwF(BPTT(), hold=False), lambda: Replay(BPTT(), hold=False), lambda: EWC(BPTT(), hold=False)):
        rule = make()
        list(rule.updates(net, X, Y, loss))
        rule.next_task(net, X, Y, loss)
        found, without = (learned(module, rule, PerStep(CE, penalty=p)) for p in (PENALTY, None))
        alone = learned(module, BPTT(), PerStep(lambda o, y: 0 * o.sum(), penalty=PENALTY))
        for name, grad in alone[0].items():
            torch.testing.assert_close(found[0][name] - without[0][name], grad, rtol=1e-7, atol=1e-10)


def test_the_information_of_ewc_is_that_of_the_likelihood() -> None:
    found = []
    for penalty in PENALTY, None:
        net, rule = Network(Net()), EWC(BPTT(), hold=False)
        rule.prepare(net, X)
        rule.next_task(net, X, Y, PerStep(CE, penalty=penalty))
        found.append(rule.stiffness["one.weight"])
    assert found[0].any() and torch.equal(*found)


class Deaf(Rule):
    """A rule of a user that knows nothing of penalties."""

    traits = Traits(loss="any", credit_through_time=True, gradients="own", memory="linear")

    def learn(self, batch: Batch) -> Any:
        yield from ()


class Own(Neuron):
    """Neurons with a scan of their own, which declare nothing."""

    def scan(self, x: Tensor, state: Any, through_time: bool) -> Any:
        return x, state


def test_what_is_refused() -> None:
    loss = PerStep(CE, penalty=PENALTY)
    with pytest.raises(IncompatibleRule, match=r"Deaf was given PerStep.*does not declare \(traits.penalty\)"):
        learned(Net(), Deaf(1), loss)
    with pytest.raises(IncompatibleRule, match=r"'1' .Own. does not declare that its outputs are 0 or 1"):
        own = Own(threshold=1.0, reset="zero", detach_reset=True, surrogate=sw.surrogate.Sigmoid(), inplace=False)
        net = Network(nn.Sequential(nn.Linear(4, 3), own).double())
        BPTT().updates(net, X, Y, loss)
    for given, message in (
        ({}, r"FiringRatePenalty\(\) was asked for without a bound"),
        ({"lower": 0.5, "upper": 0.2}, "no rate is above the lower bound and below"),
        ({"lower": 0.0}, "lower"),
        ({"upper": 1.5}, "upper"),
        ({"upper": 0.1, "upper_strength": 0.0}, "upper_strength"),
        ({"upper": 0.1, "layers": "a"}, "layers"),
    ):
        with pytest.raises(ConfigError, match=message):
            FiringRatePenalty(**given)  # type: ignore[arg-type]


def test_spikes_of_a_trained_amplitude_and_with_noise_count_as_ones() -> None:
    for neuron in (partial(DSRIF, threshold=1.5), partial(IF, noise=0.1, amplitude=2.0)):
        module = Net(neuron)
        (update,) = learned(module, BPTT(), PerStep(CE, penalty=PENALTY))[1]
        assert 0 < float(update.penalty) < 3 and set(update.rates) == {"a", "b"}
        with_it = FiringRatePenalty(upper=0.0)  # the mean of squares of rates, at least the square of their mean
        (update,) = learned(module, BPTT(), PerStep(CE, penalty=with_it))[1]
        assert float(update.penalty) >= sum(r**2 for r in update.rates.values()) - 1e-6
        assert float(update.penalty) <= sum(update.rates.values()) + 1e-6


def test_local_readouts_and_a_penalty() -> None:
    module = Net()
    rule = OTTT(local=Local())
    rule.prepare(Network(module), X)
    found, without = (learned(module, rule, PerStep(CE, penalty=p)) for p in (PENALTY, None))
    alone = learned(module, OTTT(), PerStep(lambda o, y: 0 * o.sum(), penalty=PENALTY))
    for name, grad in alone[0].items():
        torch.testing.assert_close(found[0][name] - without[0][name], grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("make", [BPTT, SLTT, OTTT])
@pytest.mark.parametrize("neuron", [ALIF, CUBALIF])
def test_a_readout_that_integrates_has_no_rate(make: Callable[[], Rule], neuron: Callable[[], Neuron]) -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(4, 8), neuron() if make is BPTT else LIF(), nn.Linear(8, 3), LI()).double())
    for p in net.parameters():
        p.data.mul_(3)
    (update,) = make().updates(net, X, Y, PerStep(CE, penalty=PENALTY))
    hidden = Network(net.module[:2]).run(X)[0]  # type: ignore[index]
    torch.testing.assert_close(update.penalty, by_hand(hidden.mean(0)).mean().detach())
    with pytest.raises(IncompatibleRule, match=r"'3' \(LI\) emits its potential and no spikes"):
        make().updates(net, X, Y, PerStep(CE, penalty=FiringRatePenalty(upper=0.1, layers=("3",))))
