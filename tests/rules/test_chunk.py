"""The length of a chunk: given, from a memory budget, or whole."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import OnRate, PerStep
from spikewright.metrics import AllocatedBytes
from spikewright.rules import BPTT, DSR, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, Rule
from spikewright.rules._batch import Batch
from spikewright.rules._fitting import fit_of
from spikewright.rules._step_memory import step_memory
from spikewright.solvers import FixedPoint
from spikewright.spatial import DFA, ZO
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients, loss_for

STEPS = 16
RULES: dict[str, Callable[..., Rule]] = {
    "BPTT": BPTT,
    "BPTT, checkpoint": partial(BPTT, checkpoint=True),
    "SLTT": SLTT,
    "SLTT, k": partial(SLTT, k=3),
    "OTTT": OTTT,
    "OPZO": OPZO,
    "DFA": partial(OTTT, spatial=DFA()),
    "ZO": partial(SLTT, spatial=ZO()),
    "DSR": DSR,
    "IDE": IDE,
    "SPIDE": SPIDE,
    "HLOP": lambda chunk: HLOP(OTTT(chunk=chunk), rows=2),
}
every_rule = pytest.mark.parametrize("make", RULES.values(), ids=RULES)


def network() -> sw.Network:
    torch.manual_seed(0)
    return sw.Network(nn.Sequential(nn.Linear(64, 96), sw.LIF(), nn.Linear(96, 32), sw.LIF(), nn.Linear(32, 4)))


def data(steps: int = STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(steps, 8, 64), torch.randint(4, (8,))


def used(rule: Rule, net: sw.Network) -> int:
    """The working memory of a training step, with everything that comes before it."""
    net.zero_grad()
    x, y = data()
    net.wiring(x)
    criterion = nn.CrossEntropyLoss()
    loss = OnRate(criterion) if rule.traits.loss == "rate" else PerStep(criterion)
    before = torch.get_rng_state()
    rule.prepare(net, x)
    batch = Batch(net, x, y, loss).fitted(rule)  # is measured by itself
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in net.parameters())
    with AllocatedBytes() as allocated:
        list(rule.learn(batch))
    return allocated.peak


def at_once(rule: Rule, steps: int = STEPS) -> int:
    net, (x, y) = network(), data(steps)
    return Batch(net, x, y, loss_for(rule)).steps_at_once(rule)


@every_rule
@pytest.mark.long
def test_a_budget_is_kept_and_used(make: Callable[..., Rule]) -> None:
    """In between what one step at a time takes and what all take; and refused where none fits, with the least."""
    net = network()
    least, most = sorted((used(make(chunk=1), net), used(make(chunk=STEPS), net)))
    for share in (0.2, 0.7):
        budget = int(least + share * (most - least)) + 20_000
        taken = used(make(chunk=f"{budget} B"), net)
        assert 0.4 * budget < taken <= budget
    with pytest.raises(IncompatibleRule, match=r"is to learn from 16 steps of 8 samples in .* needs at least .* KiB"):
        used(make(chunk=f"{least // 4} B"), net)


@every_rule
def test_what_it_is_refused_with_is_enough(make: Callable[..., Rule]) -> None:
    net = network()
    with pytest.raises(IncompatibleRule) as refused:
        used(make(chunk="1 B"), net)
    enough = str(refused.value).partition("Give it '")[2].partition("'")[0]
    used(make(chunk=enough), net)


def test_chunks_under_a_budget_are_of_one_size() -> None:
    net = network()
    one, all_of_them = used(SLTT(), net), used(SLTT(chunk=None), net)
    assert at_once(SLTT(chunk="auto")) == STEPS and at_once(SLTT(chunk=f"{one * STEPS} B")) == STEPS
    found = at_once(SLTT(chunk=f"{all_of_them * 9 // 10} B"))
    assert 1 < found < STEPS and found == -(-STEPS // -(-STEPS // found))


@pytest.mark.long
def test_what_auto_runs_does_not_depend_on_what_was_measured_before() -> None:
    rule, net, (x, y) = SLTT(chunk="170 KiB"), network(), data()
    fresh = Batch(network(), x, y, loss_for(rule)).steps_at_once(rule)
    sw.plan(net, rule, x)
    sw.plan(net, SLTT(chunk=8), x)
    assert Batch(net, x, y, loss_for(rule)).steps_at_once(rule) == fresh


def test_one_step_of_a_large_network_is_not_refused_by_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikewright.rules._fitting.AUTO", 1000)
    assert at_once(OTTT(chunk="auto")) >= 1
    with pytest.raises(IncompatibleRule, match=r"BPTT\(chunk='auto'\)"):
        at_once(BPTT(chunk="auto"))


def test_lengths_without_a_budget() -> None:
    assert at_once(SLTT(chunk=None), 12) == 12 and at_once(SLTT(chunk=5), 12) == 5 and at_once(SLTT(chunk=50), 12) == 12
    assert [at_once(BPTT(checkpoint=True), steps) for steps in (1, 2, 4, 5, 64, 65)] == [1, 2, 2, 3, 8, 9]
    assert at_once(BPTT(checkpoint=True, chunk=4), 64) == 4


@pytest.mark.parametrize("name", ["conv", "residual", "feedback"])
@pytest.mark.parametrize("rule", [SLTT, OTTT, partial(BPTT, checkpoint=True)])
def test_a_budget_never_changes_the_result(rule: Callable[..., Rule], name: str) -> None:
    expected = gradients(rule(chunk=1), NETS[name](0), *sample(name, 0))
    for chunk in ("auto", "400 KiB"):
        assert_agree(gradients(rule(chunk=chunk), NETS[name](0), *sample(name, 0)), expected)


def test_what_is_no_chunk() -> None:
    with pytest.raises(
        ConfigError, match=r"SLTT\(chunk='much'\): give a number of steps, None for all of them, 'auto'"
    ):
        SLTT(chunk="much")


def test_a_budget_pays_for_the_copy_of_the_rule_that_it_is_measured_with() -> None:
    """Direct feedback learns with matrices of its own, and a copy of these learns in the trial."""
    net, (x, _) = network(), data()
    rule = OPZO(chunk="1GiB")
    rule.prepare(net, x)
    own = sum(buffer.nbytes for buffer in rule.buffers())
    row = sw.plan(net, OPZO(chunk=STEPS), x, report=()).rows[-1]
    fit = fit_of(rule, Batch(net, x, data()[1], loss_for(rule)), STEPS)
    assert fit.chunk == STEPS and fit.needed >= row.working_bytes + own > row.working_bytes + 2000


def test_the_memory_of_a_second_phase_is_measured_on_two_of_its_steps() -> None:
    net, (x, y) = network(), data()
    whole = Batch(net, x, y, OnRate(nn.CrossEntropyLoss()))
    peaks = []
    for steps in (1, 60):
        trial = SPIDE(steps=steps).trial_copy(4)
        assert isinstance(trial, SPIDE) and trial.solver.passes == min(steps, 2)
        peaks.append(step_memory(trial, whole, 8).working)
    long = SPIDE(steps=60, chunk=4)
    assert peaks[1] == pytest.approx(step_memory(long, whole, 8).working, rel=0.02)


def test_what_is_only_measured_need_not_converge() -> None:
    net, (x, _) = network(), data()
    batch = Batch(net, x, data()[1], OnRate(nn.CrossEntropyLoss()))
    assert step_memory(IDE(FixedPoint(iterations=1, tolerance=1e-30), strict=True).trial_copy(2), batch, 4).working > 0
