"""Other libraries read what is written, each in a process of its own, and the report says what they make of it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import spikewright as sw
from docs._tools.pages import ROOT
from spikewright.interop.nir import NIRReport, to_nir
from spikewright.interop.nir.importers import compared, installed, read_by
from tests.interop.nir.nets import mlp, recurrent


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse"])
def test_a_library_fires_as_the_network_does(library: str, tmp_path: Path) -> None:
    if library not in installed():
        pytest.skip(f"{library} is not installed")
    net, x = mlp()
    row = to_nir(net[:4], x, tmp_path / "net.nir", dt=1e-4, readers=[library]).rows[-1]
    assert row.reader == library and row.version and row.compared == 30 * 4 * 8
    assert row.agrees, row


@pytest.mark.parametrize("kind", ["lif", "if", "cuba", "li"])
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse", "sinabs"])
def test_files_of_other_libraries_are_read_exactly(library: str, kind: str, tmp_path: Path) -> None:
    """With the arguments that docs/interop-nir.md gives; the network runs in its own library."""
    if library not in installed():
        pytest.skip(f"{library} is not installed")
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "nir_importers.py"))
    why = benchmark["write"](library, kind, tmp_path)
    if kind == "li" and library in ("spikingjelly", "snntorch"):
        assert "has no neuron that only integrates" in why
        return
    assert why == ""
    row = benchmark["read"]("spikewright", library, kind, tmp_path)
    if (library, kind) == ("snntorch", "if"):
        assert "(LIF) with r inf" in row.refused
    elif (library, kind) in (("norse", "cuba"), ("sinabs", "cuba")):  # they write another network: w_in, tau_syn
        assert not row.refused and row.differing > 50
    else:
        assert row.agrees and np.abs(np.load(tmp_path / "output.npy")).sum() > 50


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse"])
def test_a_library_fires_as_a_network_with_currents_does(library: str, tmp_path: Path) -> None:
    if library not in installed():
        pytest.skip(f"{library} is not installed")
    neurons = [sw.CUBALIF(5.0, 3.0, reset="zero"), sw.CUBALIF(2.5, 4.0, reset="zero", gain=0.7, current_gain=1.2)]
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), neurons[0], torch.nn.Linear(16, 8), neurons[1])
    report = to_nir(net, 3 * torch.randn(30, 4, 6), tmp_path / "net.nir", dt=1e-4, readers=[library])
    assert not report.silent and report.rows[-1].agrees, report.rows[-1]


def test_a_library_with_a_dt_of_its_own_says_so(tmp_path: Path) -> None:
    if "snntorch" not in installed():
        pytest.skip("snntorch is not installed")
    net, x = mlp()
    row = to_nir(net, x, tmp_path / "net.nir", dt=1e-3, readers=["snntorch"]).rows[-1]
    assert row.refused.startswith("ValueError: snnTorch reads every file with dt = 1e-4") and not row.agrees


@pytest.mark.long
def test_a_library_that_fails_is_a_row_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "net.nir").write_bytes(b"no file of NIR")
    row = read_by("norse", tmp_path / "net.nir", torch.zeros(2, 1, 3), np.zeros((2, 1, 3)), True, 1e-4)
    assert row.refused and row.compared == 0 and not row.agrees


def test_spikes_are_compared_exactly_and_potentials_but_for_rounding() -> None:
    expected = np.array([[[0.0, 1.0, 2.0]]])
    near = expected + 1e-5
    assert compared("a", near, expected, False, torch.float32).differing == 0
    assert compared("a", near, expected, True, torch.float32).differing == 3
    assert compared("a", expected + np.nan, expected, False, torch.float32).differing == 3
    assert compared("a", expected[0], expected, True, torch.float32).refused == "output [1, 3] in place of [1, 1, 3]"


def test_the_report_names_layers_that_never_fired(tmp_path: Path) -> None:
    net, x = recurrent()
    fired = to_nir(net, x, tmp_path / "net.nir", dt=1e-4, readers=())
    torch.nn.init.zeros_(net.get_submodule("second").weight)
    torch.nn.init.zeros_(net.get_submodule("second").bias)
    report = to_nir(net, x, tmp_path / "net.nir", dt=1e-4, readers=())
    assert isinstance(report, NIRReport) and fired.silent == () and report.silent == ("b",)
    assert [line.split()[0] for line in fired.table().splitlines()] == ["reader", "interpreter", "spikewright"]
    assert fired.path == str(tmp_path / "net.nir") and fired.dt == 1e-4 and all(fired.neurons.values())
