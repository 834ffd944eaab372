"""The memory certificate and the meter it reads."""

import pytest
import torch
from torch import nn

from spikewright.errors import ConfigError
from spikewright.metrics import SavedBytes
from spikewright.network import Network
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, DSR, OTTT, SLTT
from tests.catalogue import RULES, Entry
from tests.core.support import two_layers
from tests.nets import NETS
from tests.rules.support import names

SHAPE = (6, 3, 8)


def test_the_rows_of_bptt_lie_on_a_line() -> None:
    net = Network(two_layers())
    short = plan(net, BPTT(), SHAPE, report=(40,))
    assert [row.steps for row in short.rows if row.measured] == [2, 4, 8]
    on_line = {row.steps: row.saved_bytes for row in short.rows if not row.measured}
    measured = plan(net, BPTT(), SHAPE, measure=(6, 40), report=()).rows
    assert {row.steps: row.saved_bytes for row in measured} == on_line
    assert short.bytes_per_step == (measured[1].saved_bytes - measured[0].saved_bytes) / 34 > 0


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_the_largest_number_of_steps_is_the_largest(chunk: int | None) -> None:
    """Measured there, it fits the budget; with one chunk of steps more it does not."""
    net, rule = Network(NETS["conv"](0)), BPTT(chunk=chunk)
    budget = 12 * plan(net, rule, (3, 2, 2, 8, 8), measure=(3, 6)).rows[0].saved_bytes
    largest = plan(net, rule, (3, 2, 2, 8, 8), budget).largest
    assert largest is not None and largest > 12
    fits, fits_not = plan(net, rule, (3, 2, 2, 8, 8), measure=(largest, largest + (chunk or 1)), report=()).rows[-2:]
    assert fits.steps == largest
    assert fits.saved_bytes <= budget < fits_not.saved_bytes


@pytest.mark.parametrize("rule", [SLTT(), SLTT(k=2), OTTT(), OTTT(online=True)], ids=repr)
def test_what_does_not_grow_fits_always_or_never(rule: SLTT) -> None:
    net = Network(two_layers())
    enough = plan(net, rule, SHAPE, budget=10**9)
    assert enough.bytes_per_step == 0 and enough.largest is None
    assert len({row.saved_bytes for row in enough.rows}) == 1
    assert "every length fits" in enough.table()
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
