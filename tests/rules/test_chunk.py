"""The length of a chunk: given, from a budget, or whole."""

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from spikewright.rules._chunk_size import steps_at_once
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients

BYTES_PER_STEP = 4 * 5 * (8 + 16 + 16 + 16 + 16 + 4)
"""Of the net below with 5 samples: what enters and leaves Linear(8, 16), its neurons and Linear(16, 4)."""


def at_once(rule: Rule, steps: int, dtype: torch.dtype = torch.float32) -> int:
    net = sw.Network(nn.Sequential(nn.Linear(8, 16), sw.LIF(), nn.Linear(16, 4)).to(dtype))
    x = torch.zeros(steps, 5, 8, dtype=dtype)
    return steps_at_once(rule, net.wiring(x), x)


@pytest.mark.parametrize("make", [BPTT, SLTT, OTTT])
def test_as_many_steps_as_fit_the_budget_in_chunks_of_one_size(make: type[Rule]) -> None:
    for fit, even in ((1, 1), (3, 3), (5, 4), (11, 6), (12, 12)):
        budget = f"{fit * BYTES_PER_STEP} B"
        assert at_once(make(chunk=budget), 12) == even
        assert at_once(make(chunk=budget), 2) == min(2, fit)
        assert at_once(make(chunk=f"{2 * fit * BYTES_PER_STEP} B"), 12, torch.float64) == even
        assert at_once(make(chunk=f"{fit * BYTES_PER_STEP - 1}B"), fit) == (fit if fit == 1 else -(-fit // 2))
    assert at_once(make(chunk="auto"), 12) == 12
    most = (1 << 30) // BYTES_PER_STEP
    assert at_once(make(chunk="auto"), most) == most and at_once(make(chunk="auto"), 2 * most) == most
    assert at_once(make(chunk=None), 12) == 12 and at_once(make(chunk=5), 12) == 5 and at_once(make(chunk=50), 12) == 12


def test_checkpoints_without_a_chunk_are_the_root_apart() -> None:
    assert [at_once(BPTT(checkpoint=True), steps) for steps in (1, 2, 4, 5, 64, 65)] == [1, 2, 2, 3, 8, 9]
    assert at_once(BPTT(checkpoint=True, chunk=4), 64) == 4


@pytest.mark.parametrize("name", ["conv", "residual", "feedback"])
@pytest.mark.parametrize("rule", [BPTT, SLTT, OTTT])
def test_a_budget_never_changes_the_result(rule: type[Rule], name: str) -> None:
    expected = gradients(rule(chunk=1), NETS[name](0), *sample(name, 0))
    for chunk in ("auto", "5 KiB", "20 KiB"):
        assert_agree(gradients(rule(chunk=chunk), NETS[name](0), *sample(name, 0)), expected)


def test_what_is_no_chunk() -> None:
    with pytest.raises(
        ConfigError, match=r"SLTT\(chunk='much'\): give a number of steps, None for all of them, 'auto'"
    ):
        SLTT(chunk="much")
