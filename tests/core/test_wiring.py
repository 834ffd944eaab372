"""Who feeds whom, read off a probe, and the promises that follow from it."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, SLTT
from tests.core.support import Lambda, certificate, lively, promised
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree
from tests.rules.support import gradients

Edges = dict[str, tuple[set[str], set[str]]]
"""Senders and receivers of every synapse."""

WIRINGS: dict[str, tuple[Edges, dict[str, set[str]]]] = {
    "residual": (
        {
            "stem": (set(), {"first"}),
            "conv1": ({"first"}, {"inner"}),
            "conv2": ({"inner"}, {"last"}),
            "out": ({"last"}, set()),
        },
        {"first": {"inner", "last"}, "inner": {"last"}, "last": set()},
    ),
    "branching": (
        {
            "stem": (set(), {"root"}),
            "left": ({"root"}, {"join"}),
            "right": ({"root"}, {"side"}),
            "out": ({"join"}, set()),
        },
        {"root": {"join", "side"}, "side": {"join"}, "join": set()},
    ),
    "feedback": (
        {"0": (set(), {"2"}), "1.transform": ({"4"}, {"2"}), "3": ({"2"}, {"4"}), "5": ({"4"}, set())},
        {"2": {"4"}, "4": {"2"}},
    ),
    "shared": (
        {"fc1": (set(), {"lif"}), "fc2": ({"lif"}, {"lif#2"}), "out": ({"lif#2"}, set())},
        {"lif": {"lif#2"}, "lif#2": set()},
    ),
    "conv": ({"0": (set(), {"1"}), "3": ({"1"}, {"4"}), "6": ({"4"}, set())}, {"1": {"4"}, "4": set()}),
}


def wiring(module: nn.Module, data: str = "mlp") -> Wiring:
    return Network(module).wiring(sample(data, 0)[0])


@pytest.mark.parametrize("name", WIRINGS)
@pytest.mark.parametrize("steps", [1, 6])
def test_senders_receivers_and_successors(name: str, steps: int) -> None:
    found, (edges, successors) = Network(NETS[name](0)).wiring(sample(name, 0, steps)[0]), WIRINGS[name]
    assert {s.name: (set(s.senders), set(s.receivers)) for s in found.synapses.values()} == edges
    assert found.successors == successors
    assert [s for s, synapse in found.synapses.items() if synapse.reads_input] == [next(iter(edges))]
    assert all(s.linear and s.direct == (not s.receivers) for s in found.synapses.values())
    assert found.output == (4,)


def test_a_synapse_that_reads_currents_and_one_that_reaches_the_output() -> None:
    found = wiring(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 12), LIF(), nn.Linear(12, 4)).double())
    assert [s.reads_currents for s in found.synapses.values()] == [False, True, False]
    assert [set(s.receivers) for s in found.synapses.values()] == [{"2"}, {"2"}, set()]
    both = Lambda(lambda m, x: m.lif(current := m.fc(x)) + current, fc=nn.Linear(8, 4), lif=LIF()).double()
    assert wiring(both).synapses["fc"].direct and not promised(certificate(both))


BETWEEN: dict[str, tuple[nn.Module, bool]] = {
    "identity": (nn.Identity(), True),
    "average": (nn.AvgPool1d(2), True),
    "upsampling": (nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool1d(4)), True),
    "maximum": (nn.MaxPool1d(2), False),
    "rectifier": (nn.ReLU(), False),
    "norm": (nn.BatchNorm1d(3), False),
    "softmax": (nn.Softmax(2), False),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_only_linear_ways_to_the_neurons_keep_the_promise(name: str) -> None:
    between, linear = BETWEEN[name]
    width = between.float().eval()(torch.zeros(2, 3, 8, dtype=torch.float32)).shape[2]
    parts = [nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 3, 3, padding=1, bias=False), between.train(), LIF(), nn.Flatten()]
    module = lively(nn.Sequential(*parts, nn.Linear(3 * width, 4)))
    assert wiring(module).synapses["1"].linear == linear
    found = certificate(module)
    assert found.ok, found.table()
    assert ("1.weight" in promised(found)) == linear


def test_a_product_of_two_currents_is_not_linear_in_either() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        s = m.first(m.stem(x))
        return m.out(m.last(3 * torch.bmm(m.query(s).unsqueeze(2), m.key(s).unsqueeze(1)).flatten(1)))

    layers = {"stem": nn.Linear(8, 12), "query": nn.Linear(12, 5), "key": nn.Linear(12, 4), "out": nn.Linear(20, 4)}
    found = certificate(lively(Lambda(forward, **layers, first=LIF(), last=LIF())))
    assert found.ok, found.table()


def test_a_gain_and_a_constant_factor() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif, self.out = nn.Linear(8, 12), LIF(), nn.Linear(12, 4)
            self.gain = nn.Parameter(torch.tensor(1.5))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lif(self.gain * self.fc(x) * 2 / 1.5))

    found = certificate(lively(Scaled()))
    assert found.ok, found.table()
    assert [row.is_layer for row in found.rows if row.site == "gain"] == [False]


def test_a_weight_that_two_modules_share() -> None:
    """Its gradient is exact only if it is at both places."""
    tied = nn.Linear(12, 12)
    layers = {"last": tied, "stem": nn.Linear(8, 12), "hidden": nn.Linear(12, 12), "out": nn.Linear(12, 4)}
    layers["hidden"].weight = tied.weight
    neurons = {"a": LIF(), "b": LIF(), "c": LIF()}
    module = Lambda(lambda m, x: m.out(m.c(m.last(m.b(m.hidden(m.a(m.stem(x))))))), **layers, **neurons)
    found = certificate(lively(module))
    assert found.ok, found.table()
    assert "last.weight" not in promised(found)


@pytest.mark.filterwarnings("ignore:OTTT does not see 'fc.bias', 'fc.weight'")
def test_a_functional_layer_gets_the_gradient_of_its_step() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        s = m.first(m.stem(x))
        current = nn.functional.linear(s, m.fc.weight, m.fc.bias) if functional else m.fc(s)
        return m.out(m.last(current))

    layers = {"stem": nn.Linear(8, 12), "fc": nn.Linear(12, 12), "out": nn.Linear(12, 4)}
    module = lively(Lambda(forward, **layers, first=LIF(), last=LIF()))
    (x, y), functional = sample("mlp", 0), False
    by_step = gradients(SLTT(), module, x, y)
    functional = True
    found = gradients(OTTT(), module, x, y)
    pair = ("fc.weight", "fc.bias")
    assert_agree({name: found[name] for name in pair}, {name: by_step[name] for name in pair})
    rows = certificate(module).rows
    assert {row.site for row in rows if not row.is_layer} == {"fc.weight", "fc.bias"}
    assert not any(row.exact for row in rows if row.site.startswith("fc"))


def _membrane_shortcut(inplace: bool) -> Lambda:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        current = m.stem(x)
        added = m.fc(m.first(current))
        current = current.add_(added) if inplace else current + added
        return m.out(m.last(current))

    torch.manual_seed(0)
    layers = {"stem": nn.Linear(8, 6), "fc": nn.Linear(6, 6), "out": nn.Linear(6, 4)}
    return lively(Lambda(forward, **layers, first=LIF(), last=LIF()).double())


def test_a_current_may_be_written_to_once_its_neuron_has_seen_it() -> None:
    copying, writing = _membrane_shortcut(False), _membrane_shortcut(True)
    x, y = sample("mlp", 0)
    expected, found = Network(copying).wiring(x), Network(writing).wiring(x)
    assert (expected.overwritten, found.overwritten) == (frozenset(), {"first"})
    assert found.successors == expected.successors == {"first": {"last"}, "last": set()}
    for rule in (BPTT(), SLTT(chunk=4), OTTT()):
        assert_agree(gradients(rule, writing, x, y), gradients(rule, copying, x, y))
    assert torch.equal(Network(copying).run(x)[0], Network(writing).run(x)[0])


def test_layers_in_a_row_read_the_one_before_and_nothing_further() -> None:
    parts = [nn.Linear(8, 6), nn.Linear(6, 12), LIF(), nn.Linear(12, 6), nn.Linear(6, 12), LIF(), nn.Linear(12, 4)]
    found = wiring(nn.Sequential(*parts).double()).synapses
    assert {name: set(s.senders) for name, s in found.items()} == {
        "0": set(),
        "1": set(),
        "3": {"2"},
        "4": set(),
        "6": {"5"},
    }
    assert [name for name, s in found.items() if s.reads_input] == ["0"]
    assert [name for name, s in found.items() if s.reads_currents] == ["1", "4"]
    assert all(s.linear for s in found.values())
