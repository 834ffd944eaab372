"""Memory and compilation."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.memory_profile import plan
from tests.catalogue import RULES, Entry
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients, names, unless_refused

every_rule = pytest.mark.parametrize("entry", RULES, ids=names())


def tiny_conv(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), LIF(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(8, 2)).double()


@every_rule
@pytest.mark.parametrize(
    "build, shape, steps",
    [(NETS["mlp"], (4, 2, 8), 64), (NETS["feedback"], (4, 2, 8), 32), (tiny_conv, (4, 2, 1, 4, 4), 32)],
    ids=["mlp", "feedback", "conv"],
)
def test_memory_grows_with_the_steps_for_bptt_only(
    entry: Entry, build: Callable[[int], nn.Module], shape: tuple[int, ...], steps: int
) -> None:
    if build is NETS["feedback"]:
        unless_refused(entry, "feedback")
    few, many = plan(Network(build(0)), entry.make(), shape, measure=(4, steps), report=()).rows
    times = steps / 4
    assert few.measured and many.measured and few.saved_bytes > 0
    if entry.constant_memory:
        assert few.saved_bytes == many.saved_bytes
    elif entry.make().traits.memory == "root":  # with the root of the number of steps, and far below that the outputs
        assert 0.6 * times**0.5 * few.saved_bytes < many.saved_bytes < 0.4 * times * few.saved_bytes
    else:
        assert many.saved_bytes > 0.78 * times * few.saved_bytes


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
@every_rule
def test_a_stateless_block_may_be_compiled(entry: Entry) -> None:
    def module(compiled: bool) -> nn.Module:
        torch.manual_seed(1)
        curved = nn.Identity() if entry.rates else nn.Hardtanh()  # which rules of rates refuse
        block = nn.Sequential(curved, nn.AvgPool2d(2), nn.Flatten())
        parts = [nn.Conv2d(2, 6, 3, padding=1), LIF()], [nn.Linear(96, 8), LIF(), nn.Linear(8, 4)]
        middle = torch.compile(block, backend="eager", fullgraph=True) if compiled else block
        return nn.Sequential(*parts[0], middle, *parts[1]).double()

    x, y = sample("conv", 0)
    assert_agree(gradients(entry.make(), module(True), x, y), gradients(entry.make(), module(False), x, y))
