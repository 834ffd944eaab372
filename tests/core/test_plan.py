"""The memory certificate and the meter it reads."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from spikewright.errors import ConfigError
from spikewright.metrics import AllocatedBytes, SavedBytes
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, DSR, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, Rule
from spikewright.rules._batch import Batch
from spikewright.spatial import DFA, ZO
from tests.catalogue import RULES, Entry
from tests.core.support import two_layers
from tests.nets import NETS
from tests.rules.support import loss_for, names

SHAPE = (6, 3, 8)


def test_the_rows_of_bptt_lie_on_a_line() -> None:
    net = Network(two_layers())
    short = plan(net, BPTT(), SHAPE, report=(40,))
    assert [row.steps for row in short.rows if row.measured] == [2, 4, 8]
    on_line = {row.steps: row.saved_bytes for row in short.rows if not row.measured}
    measured = plan(net, BPTT(), SHAPE, measure=(6, 40), report=()).rows
    assert {row.steps: row.saved_bytes for row in measured} == on_line
    assert short.bytes_per_step == (measured[1].saved_bytes - measured[0].saved_bytes) / 34 > 0


def test_what_the_rule_keeps_takes_from_the_budget() -> None:
    """Direct feedback keeps a matrix from the error to every layer; plain OTTT keeps nothing."""
    net, rule = Network(two_layers()), OTTT(spatial=DFA())
    kept = plan(net, rule, SHAPE).rule_bytes
    rule.prepare(net, torch.rand(SHAPE))
    assert kept == sum(buffer.nbytes for buffer in rule.buffers()) > 0
    assert plan(net, OTTT(), SHAPE).rule_bytes == 0
    row = plan(net, rule, SHAPE).rows[0]
    needed = row.working_bytes + row.input_bytes + kept
    fitting = [plan(net, rule, SHAPE, needed - less).largest or 0 for less in (0, kept)]
    assert fitting[0] >= row.steps > fitting[1]


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_the_largest_number_of_steps_is_the_largest(chunk: int | None) -> None:
    """Measured there, working memory and input fill the budget to a twentieth."""
    net, rule = Network(NETS["conv"](0)), BPTT(chunk=chunk)
    budget = 6 * plan(net, rule, (3, 2, 2, 8, 8), measure=(3, 6)).rows[0].working_bytes
    largest = plan(net, rule, (3, 2, 2, 8, 8), budget).largest
    assert largest is not None and largest > 12
    fits = plan(net, rule, (3, 2, 2, 8, 8), measure=(3, largest), report=()).rows[-1]
    assert fits.steps == largest and fits.input_bytes == largest * 2 * 2 * 8 * 8 * 8
    assert 0.95 * budget < fits.working_bytes + fits.input_bytes < 1.05 * budget


@pytest.mark.parametrize("rule", [BPTT(chunk="auto"), DSR(), SLTT(chunk="1 MiB")], ids=repr)
def test_the_largest_number_of_steps_is_found_without_running_them(rule: Rule) -> None:
    """A rule with a memory budget would try chunks up to it; those of long sequences are computed."""
    net, ran = Network(two_layers()), list[int]()
    net.module.register_forward_pre_hook(lambda _, given: ran.append(len(given[0])))
    largest = plan(net, rule, SHAPE, "64 MiB", report=(16,)).largest
    assert largest is not None and largest > 10**4 and max(ran) < 10**4


@pytest.mark.parametrize("rule", [SLTT(), SLTT(k=2), OTTT(), OTTT(online=True)], ids=repr)
def test_what_is_saved_does_not_grow(rule: SLTT) -> None:
    """Outputs and input do, unless updates come at every step and the input is static."""
    net = Network(two_layers())
    moving = plan(net, rule, SHAPE, budget="1GB")
    assert moving.bytes_per_step == 0 and len({row.saved_bytes for row in moving.rows}) == 1
    assert moving.largest is not None and moving.largest > 10**5
    static = plan(net, rule, torch.rand(1, 3, 8).double().expand(6, 3, 8), budget="1GB")
    assert (static.largest is None) == ("every length fits" in static.table()) == (rule.traits.updates == "every step")
    assert plan(net, rule, SHAPE, budget=1).largest == 0


def test_memory_grows_with_the_chunk() -> None:
    net = Network(two_layers())
    one, eight = (plan(net, SLTT(chunk=chunk), SHAPE).rows[-1].saved_bytes for chunk in (1, 8))
    assert eight > 6 * one


def test_the_table() -> None:
    found = plan(Network(two_layers()), BPTT(), SHAPE, budget=10**5, report=(16,))
    lines = found.table().splitlines()
    assert lines[0] == "BPTT(chunk=None, checkpoint=False), input [6, 3, 8]"
    assert [line.split()[0] for line in lines[2:-1]] == ["2", "4", "6", "8", "16"]
    ends = [line.split("  ")[-1].strip() for line in lines[2:-1]]
    assert ends == ["measured", "measured", "extrapolated", "measured", "extrapolated"]
    assert lines[1].split("  ")[1:4] == ["saved for backward", "working memory", "input"]
    assert lines[-1] == f"In 97.66 KiB: at most {found.largest} steps fit."


def test_a_line_needs_two_lengths() -> None:
    with pytest.raises(ConfigError, match=r"plan\(measure=\[4\]\): a line needs at least two different lengths"):
        plan(Network(two_layers()), BPTT(), SHAPE, measure=(4, 4))


def test_a_rule_that_keeps_no_step_is_measured_on_few() -> None:
    rows = plan(Network(two_layers()), DSR(), SHAPE).rows
    assert [row.steps for row in rows if row.measured] == [2, 4, 8]
    assert len({row.saved_bytes for row in rows}) == 1


@pytest.mark.parametrize("entry", RULES, ids=names())
def test_leaves_no_trace(entry: Entry) -> None:
    net, rule = Network(NETS["mlp"](0)), entry.make()
    random, draws = torch.get_rng_state(), {name: b.clone() for name, b in rule.named_buffers()}
    plan(net, rule, SHAPE)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(b, draws[name]) for name, b in rule.named_buffers())


def test_the_meter_counts_a_tensor_once_and_parameters_never() -> None:
    x, layer = torch.rand(10, 8, requires_grad=True), nn.Linear(8, 4)
    with SavedBytes() as saved:
        kept = layer(x), layer(x)
    assert saved.peak == saved.alive == x.numel() * 8
    del kept
    assert saved.alive == 0 and saved.peak == x.numel() * 8


def test_the_meter_has_a_peak() -> None:
    with SavedBytes() as saved:
        for size in (100, 300, 200):
            torch.rand(size, requires_grad=True).exp().sum().backward()
    assert saved.peak == 300 * 8 and saved.alive == 0


def test_the_meter_forgets_a_graph_that_is_dropped_without_a_backward_pass() -> None:
    a = torch.rand(100, requires_grad=True)
    with SavedBytes() as saved:
        losses = [(a * factor).exp().sum() for factor in (2.0, 3.0, 4.0)]
        assert saved.alive == 3 * 800
        losses.pop().backward()
        del losses[0]
    assert saved.alive == 800 and saved.peak == 2400


def allocated(rule: Rule, steps: int) -> int:
    """The memory of a training step that is not undone, with a criterion of its own."""
    net, x, y = Network(wide()), torch.rand(steps, 4, 32), torch.randint(4, (4,))
    loss = loss_for(rule).by(nn.CrossEntropyLoss())
    net.wiring(x)
    rule.prepare(net, x)
    batch = Batch(net, x, y, loss).fitted(rule)
    with AllocatedBytes() as working:
        for _ in rule.learn(batch):
            pass
    return working.peak


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), LIF(), nn.Linear(64, 64), LIF(), nn.Linear(64, 4))


@pytest.mark.parametrize(
    "make",
    [
        BPTT,
        partial(BPTT, checkpoint=True),
        partial(BPTT, chunk=3),
        SLTT,
        partial(SLTT, k=2),
        partial(SLTT, chunk=5),
        partial(SLTT, chunk="200 KiB"),
        OTTT,
        partial(OTTT, online=True),
        OPZO,
        partial(OTTT, spatial=DFA()),
        partial(SLTT, spatial=ZO()),
        DSR,
        IDE,
        SPIDE,
        lambda: HLOP(OTTT(), rows=2),
    ],
    ids=lambda make: repr(make()).partition("(")[0],
)
@pytest.mark.long
def test_working_memory_is_what_a_step_allocates(make: Callable[[], Rule]) -> None:
    lengths = (8, 32, 128)
    rows = {row.steps: row for row in plan(Network(wide()), make(), (8, 4, 32), report=lengths).rows}
    for steps in lengths:
        assert rows[steps].working_bytes == pytest.approx(allocated(make(), steps), rel=0.2, abs=8192)


def test_temporaries_and_gradients_count() -> None:
    layer, x = nn.Linear(8, 4), torch.rand(10, 8)
    with AllocatedBytes() as allocated:
        layer(x).square().sum().backward()
    gradients = 8 * (8 * 4 + 4)
    assert gradients < allocated.peak == max(allocated.phases)


def test_phases() -> None:
    weight = torch.rand(1000, requires_grad=True)
    with AllocatedBytes() as allocated:
        with torch.no_grad():
            torch.rand(5000).exp()
        weight.exp().sum().backward()
    free, graph, backward = allocated.phases
    assert free == 2 * 5000 * 8 and graph < free and 2 * 1000 * 8 <= backward < free


def test_a_profiler_is_in_the_way() -> None:
    net, rule, x = Network(wide()), SLTT(chunk="1 MiB"), torch.rand(4, 4, 32)
    with AllocatedBytes(), pytest.raises(ConfigError, match=r"a profiler of torch is active.*chunk=1"):
        plan(net, rule, x)
    plan(net, rule, x)
