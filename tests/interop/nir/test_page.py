"""What docs/interop-nir.md says beside its blocks, which tests/docs/test_blocks.py runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from docs._tools.pages import DOCS
from spikewright.interop.nir import from_nir, importer_child, to_nir
from spikewright.interop.nir.nodes import BUILDERS
from spikewright.interop.nir.reading import read_graph
from tests.interop.nir.graphs import graph, lif
from tests.interop.nir.nets import count_if, cuba, recurrent
from tests.interop.nir.nets import lif as neuron

PAGE = (DOCS / "interop-nir.md").read_text()


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def test_the_types_that_are_read_are_those_of_the_table() -> None:
    said = words(PAGE.partition("## What is read")[2].partition(",\nand graphs within")[0])
    assert said == BUILDERS.keys() - {"Input", "Output", "Identity"}


def test_the_defaults_are_those_of_the_equations() -> None:
    one = np.ones(1)
    read = from_nir(graph(1, 1, {"n": {**lif(1), "tau": 4e-3 * one, "v_threshold": one}}), dt=1e-3).get_submodule("n")
    assert isinstance(read, sw.LIF) and read.reset == "zero" and read.tau == 4
    assert read.threshold == 1 and read.strict
    exact = from_nir(graph(1, 1, {"n": lif(1, tau=4e-3)}), dt=1e-3, decay="exact").get_submodule("n")
    assert isinstance(exact, sw.LIF) and exact.leak == pytest.approx(np.exp(-0.25))


def values(net: nn.Module, x: torch.Tensor, folder: Path) -> Any:
    to_nir(net, x, folder / "net.nir", dt=1e-4, readers=())
    return read_graph(folder / "net.nir")


def test_neurons_are_written_as_the_page_says(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 3), neuron(5.0, gain=0.4), nn.Linear(3, 2), count_if())
    found = values(net, torch.randn(10, 2, 4), tmp_path)
    first, second = found.nodes["1"], found.nodes["3"]
    assert (first.array("r") == 1).all() and np.allclose(first.array("tau"), 5e-4)
    assert np.allclose(found.nodes["0"].array("weight"), 2 * net[0].weight.detach().numpy())
    assert np.allclose(second.array("r"), 1e4)
    below = np.nextafter(np.float32(1), np.float32(0))
    assert (first.array("v_threshold") == below).all() and (second.array("v_threshold") == below).all()
    assert first.metadata["steps"] == pytest.approx([5.0] * 3, rel=1e-15) and first.metadata["site"] == "1"


def test_currents_are_written_as_the_page_says(tmp_path: Path) -> None:
    last = sw.LI(5.0, tau_syn=2.0, gain=0.5)
    net = nn.Sequential(
        nn.Linear(4, 3), cuba(5.0, 3.0, gain=0.4, current_gain=2.0), cuba(gain=0.3), nn.Linear(3, 2), last
    )
    found = values(net, 5 * torch.randn(10, 2, 4), tmp_path).nodes
    assert [found[name].kind for name in "124"] == ["CubaLIF", "CubaLIF", "CubaLI"]
    assert np.allclose(found["1"].array("w_in"), 3) and np.allclose(found["1"].array("r"), 5)
    assert np.allclose(found["0"].array("weight"), 0.8 * net[0].weight.detach().numpy())
    assert np.allclose(found["2"].array("w_in"), 0.9) and np.allclose(found["4"].array("w_in"), 2)
    assert (
        found["1"].metadata["steps_syn"] == pytest.approx([3.0] * 3, rel=1e-15) and "fires" not in found["4"].metadata
    )


def test_the_factor_is_in_r_behind_spikes(tmp_path: Path) -> None:
    found = values(nn.Sequential(count_if(), neuron(5.0)), 2 * torch.rand(10, 2, 4), tmp_path)
    assert np.allclose(found.nodes["1"].array("r"), 5)


@pytest.mark.parametrize(("where", "bias", "waits"), [("a", False, 0), ("b", False, 0), ("a", True, 1)])
def test_feedback_is_edges_or_a_delay(where: str, bias: bool, waits: int, tmp_path: Path) -> None:
    net, x = recurrent(where, bias)
    found = values(net, x, tmp_path)
    assert sum(node.kind == "Delay" for node in found.nodes.values()) == waits


def test_the_table_is_one_of_the_benchmark() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and " / " in line]
    readers = ["spikewright", *importer_child.LIBRARIES]
    assert [row[0] for row in rows] == readers and all(len(row) == len(readers) + 2 for row in rows)
    assert re.search(
        r"^20\d\d-\d\d-\d\d, nir \S+, spikingjelly \S+, snntorch \S+, norse \S+, sinabs ", PAGE, re.MULTILINE
    )
    assert rows[0][2].split(" / ") == ["0", "0", "0", "0", "0"]
