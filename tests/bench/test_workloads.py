"""What each workload does, with peers that stand in for the real ones."""

from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import nn

from spikewright.bench._run import run
from spikewright.bench.contenders import FLOOR, OURS, PeerBPTT, Ruled
from spikewright.bench.peers import EVERYONE, Peer
from spikewright.bench.report import Table
from spikewright.bench.settings import BenchSettings
from spikewright.bench.task import Spikes, Task, calibrate
from spikewright.rules import BPTT
from tests.bench.fakes import Twin

layer_module: ModuleType = import_module("spikewright.bench.workloads._layer")
linear_module: ModuleType = import_module("spikewright.bench.workloads._linear")


def tables(*workloads: str, **settings: object) -> list[Table]:
    return list(run(BenchSettings(workloads, quick=True, **settings)))  # type: ignore[arg-type]


@pytest.fixture
def with_peer(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(layer_module, "EVERYONE", (Twin(),))
    return monkeypatch


@pytest.mark.usefixtures("with_peer")
@pytest.mark.long
def test_a_peer_that_does_as_we_do_agrees() -> None:
    (table,) = tables("layer")
    assert table.results["Twin BPTT"]["spikes_that_differ"] == 0
    assert table.results["Twin BPTT"]["gradient_difference"] == 0.0
    assert table.results["Twin BPTT"]["ratios"][OURS]["median"] > 0


@pytest.mark.long
def test_a_peer_that_does_otherwise_is_seen(with_peer: pytest.MonkeyPatch) -> None:
    with_peer.setattr(layer_module, "EVERYONE", (Twin(inverted=True),))
    (table,) = tables("layer")
    assert table.results["Twin BPTT"]["spikes_that_differ"] == 6 * 2 * 8
    assert table.results["Twin BPTT"]["gradient_difference"] > 0.1


@pytest.mark.long
def test_a_peer_that_fails_becomes_a_line(with_peer: pytest.MonkeyPatch) -> None:
    with_peer.setattr(layer_module, "EVERYONE", (Twin(fails=True),))
    (table,) = tables("layer")
    assert table.left_out == {"Twin BPTT": "RuntimeError: no such neuron"}
    assert list(table.results) == [OURS]


@pytest.mark.long
def test_peers_that_are_not_installed_are_named() -> None:
    (table,) = tables("mlp")
    for peer in EVERYONE:
        name = PeerBPTT(peer).name
        assert name in table.results or table.left_out[name] == f"{peer.distribution} is not installed"


@pytest.mark.parametrize("workload", ["mlp", "conv"])
@pytest.mark.long
def test_training_steps_are_compared_with_the_floor_on_weights_of_the_seed(workload: str) -> None:
    (first,) = tables(workload)
    torch.rand(3)
    (again,) = tables(workload)
    (other,) = tables(workload, seed=5)
    assert first.notes == again.notes != other.notes
    assert first.results[FLOOR]["ratios"][FLOOR]["median"] == 1.0
    assert {"spikewright SLTT, chunk auto", "spikewright OTTT, chunk auto", OURS} <= set(first.results)


@pytest.mark.long
def test_the_chunk_reaches_the_rules() -> None:
    (table,) = tables("mlp", chunk=0)
    assert "a chunk has at least one step" in table.left_out["spikewright OTTT, chunk 0"]
    assert OURS in table.results


def test_what_does_not_fit_into_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "free_memory", lambda: 1000)
    for table in tables("linear"):
        assert not table.results
        assert table.left_out[OURS].endswith("but 1000 B are free")


@pytest.mark.long
def test_widths_can_be_chosen() -> None:
    assert [table.title.partition(" ")[0] for table in tables("linear", sizes=(8, 24))] == ["Linear(8,", "Linear(24,"]


@pytest.mark.parametrize("peer", [Twin(), *EVERYONE[:4]], ids=lambda peer: peer.name)
def test_a_step_of_a_peer_learns_what_ours_does(peer: Peer, float64: None) -> None:
    """All see the same input, loss and weights; so that what they do the same, they do on the same terms."""
    layers = nn.Sequential(nn.Linear(6, 12), Spikes(), nn.Linear(12, 5), Spikes(), nn.Linear(5, 3))
    task = Task(layers, (torch.rand(7, 4, 6) < 0.5).to(torch.get_default_dtype()), torch.tensor([0, 2, 1, 2]))
    calibrate(layers, task.x)
    gradients = []
    for contender in (Ruled(OURS, BPTT), PeerBPTT(peer)):
        try:
            output = contender.ready(task).run()
        except ImportError as error:
            pytest.skip(str(error))
        gradients.append([output, *(p.grad for p in layers.parameters() if p.grad is not None)])
        task.clear()
    assert len(gradients[0]) == len(gradients[1]) == 7
    if peer.differs:
        pytest.skip(peer.differs)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)
