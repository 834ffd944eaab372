"""Where delays or feedback carry signals to later steps, and what rules that cut time can promise there."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.layers import Feedback, JointBatchNorm1d, Recurrent, StepDropout, SynapticDelay
from spikewright.layers.feedback import First
from spikewright.network import Network
from spikewright.reports.gradient_check import certify
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import DFA
from spikewright.temporal import SiteState, Temporal
from tests.core.support import CE, certificate, lively, promised
from tests.nets import lif, sample

rules = pytest.mark.parametrize("make", [SLTT, OTTT])


class Echo(Temporal):
    """A module of one's own: adds half of what arrived a step ago."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        before = torch.cat([state.get("last", torch.zeros_like(x[0]))[None], x[:-1]])
        return x + (before if through_time else before.detach()) / 2, {"last": x[-1]}


def delay(channels: int) -> nn.Module:
    return SynapticDelay(channels, init=torch.linspace(0.3, 3.7, channels))


def spikes_back() -> nn.Module:
    source = lif()
    return nn.Sequential(nn.Linear(8, 12), source, nn.Linear(12, 4), Feedback(nn.Linear(12, 4), source))


def spikes_to_later_neurons() -> nn.Module:
    source = lif()
    first = [nn.Linear(8, 12), source, nn.Linear(12, 10), Feedback(nn.Linear(12, 10), source)]
    return nn.Sequential(*first, lif(), nn.Linear(10, 4))


def recurrent(first: First = "nothing") -> nn.Module:
    layer = Recurrent(lif(), nn.Linear(12, 12), first)
    return nn.Sequential(nn.Linear(8, 12), layer, nn.Linear(12, 10), lif(), nn.Linear(10, 4))


def recurrent_at_the_end() -> nn.Module:
    first = [nn.Linear(8, 12), lif(), nn.Linear(12, 10)]
    return nn.Sequential(*first, Recurrent(lif(), nn.Linear(10, 10)), nn.Linear(10, 4))


def norm_and_masks() -> nn.Module:
    between = [nn.Dropout(0.3), StepDropout(0.3), nn.BatchNorm1d(12)]
    return nn.Sequential(nn.Linear(8, 12), lif(), *between, nn.Linear(12, 4), StepDropout(0.3))


def two_linear(first: nn.Module, between: nn.Module, last: nn.Module) -> nn.Module:
    """One layer of neurons, with something before it, behind it, and at the output."""
    return nn.Sequential(nn.Linear(8, 12), first, lif(), between, nn.Linear(12, 4), last)


none = nn.Identity
NETS: dict[str, tuple[Callable[[], nn.Module], set[str], set[str]]] = {
    "delay at the output": (lambda: two_linear(none(), none(), delay(4)), {"5"}, set()),
    "delayed spikes to the readout": (lambda: two_linear(none(), delay(12), none()), {"3", "4"}, set()),
    "two delays": (lambda: two_linear(none(), delay(12), delay(4)), {"5"}, set()),
    "delayed current": (lambda: two_linear(delay(12), none(), none()), {"4"}, set()),
    "delayed input": (lambda: nn.Sequential(delay(8), nn.Linear(8, 12), lif(), nn.Linear(12, 4)), {"3"}, {"1"}),
    "delay between neurons": (
        lambda: nn.Sequential(nn.Linear(8, 12), lif(), delay(12), nn.Linear(12, 10), lif(), nn.Linear(10, 4)),
        {"5"},
        {"3"},
    ),
    "spikes fed back to the readout": (spikes_back, {"2", "3.transform"}, set()),
    "spikes fed to later neurons": (spikes_to_later_neurons, {"5"}, {"2", "3.transform"}),
    "currents fed back to neurons": (
        lambda: two_linear(Feedback(nn.Linear(12, 12), "0"), none(), none()),
        {"4"},
        {"1.transform"},
    ),
    "output fed back to itself": (
        lambda: two_linear(none(), none(), Feedback(nn.Linear(4, 4), "4")),
        {"5.transform"},
        set(),
    ),
    "output fed back to the readout": (
        lambda: two_linear(none(), Feedback(nn.Linear(4, 12), "4"), none()),
        set(),
        set(),
    ),
    "recurrent neurons": (recurrent, {"4"}, {"2"}),
    "recurrent neurons with a bias at the first step": (lambda: recurrent("bias"), {"4"}, {"2"}),
    "recurrent neurons at the end": (recurrent_at_the_end, {"4"}, set()),
    "a filter at the output": (lambda: two_linear(none(), none(), Echo()), set(), set()),
    "norm and masks": (norm_and_masks, {"4", "5"}, {"0"}),
}
"""Networks; the modules whose gradient is that of BPTT if time is cut; and those of which it is with a trace too."""


@pytest.mark.parametrize("name", NETS)
@rules
def test_promises_hold_and_are_all_that_can_be_made(make: Callable[..., OnlineRule], name: str) -> None:
    build, cut, traced = NETS[name]
    torch.manual_seed(2)
    found = certificate(lively(build()), make(chunk=2))
    assert found.ok, found.table()
    expected = cut | (traced if make is OTTT else set())
    assert promised(found) == {row.site for row in found.rows if row.site.rpartition(".")[0] in expected}
    assert all(row.exact or row.vanishing or row.relative_error > 1e-2 for row in found.rows), found.table()


@pytest.mark.parametrize("name", NETS)
@rules
def test_nothing_is_lost_in_one_step(make: Callable[..., OnlineRule], name: str) -> None:
    module, (x, y) = lively(NETS[name][0]()), sample("mlp", 0, 1)
    found = certify(Network(module), make(), x, y, CE)
    assert found.ok and all(row.exact for row in found.rows), found.table()


@rules
def test_a_joint_norm_keeps_the_graph_of_all_steps(make: Callable[..., OnlineRule]) -> None:
    found = certificate(lively(two_linear(none(), none(), JointBatchNorm1d(4))), make(chunk=6))
    assert found.ok, found.table()
    assert {"4.weight", "5.weight"} <= promised(found) and ("0.weight" in promised(found)) == (make is OTTT)


@rules
def test_errors_straight_from_the_output_are_as_late(make: Callable[..., OnlineRule]) -> None:
    found = certificate(lively(two_linear(none(), none(), delay(4))), make(spatial=DFA()))
    assert found.ok and promised(found) == {"5.delay_logit"}, found.table()
