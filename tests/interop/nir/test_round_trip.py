"""What is written equals the network by the equations of NIR, and is read back as the same network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.interop.nir import NIRReport, from_nir, to_nir
from tests.interop.nir.nets import NETS


def exported(name: str, path: Path, dt: float = 1e-4) -> tuple[nn.Module, torch.Tensor, NIRReport]:
    net, x = NETS[name]()
    return net, x, to_nir(net, x, path, dt=dt, readers=())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.filterwarnings("ignore:'neuron' is called several times")
@pytest.mark.parametrize("name", NETS)
def test_every_network_comes_back(name: str, tmp_path: Path) -> None:
    dt = 2**-13 if name == "strict" else 1e-4  # of which tau is a multiple without rounding
    net, x, report = exported(name, tmp_path / "net.nir", dt)
    assert not report.silent and report.rounding == 0
    assert [(row.reader, row.differing) for row in report.rows] == [("interpreter", 0), ("spikewright", 0)]
    read = from_nir(tmp_path / "net.nir")
    with torch.no_grad():
        expected, found = sw.Network(net).run(x)[0], sw.Network(read).run(x)[0]
    assert expected.count_nonzero() > 20
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    again = to_nir(read, x, tmp_path / "again.nir", dt=dt, readers=())
    assert all(row.agrees for row in again.rows)


@pytest.mark.parametrize("dt", [1.0, 1e-3, 3e-5])
def test_the_duration_of_a_step_changes_no_spike(dt: float, tmp_path: Path) -> None:
    _, _, report = exported("recurrent", tmp_path / "net.nir", dt)
    assert all(row.agrees for row in report.rows)


def test_constants_come_back_to_the_last_digit(tmp_path: Path) -> None:
    exported("by_channel", tmp_path / "net.nir", 3e-5)
    read = from_nir(tmp_path / "net.nir")
    taus = [m.tau for m in read.modules() if isinstance(m, sw.LIF)]
    assert torch.allclose(torch.as_tensor(taus[0])[:, 0].double(), torch.tensor([2.0, 5.0, 9.0]).double(), rtol=1e-15)
    assert taus[1] == pytest.approx(4.0, rel=1e-15)
    assert [m.threshold for m in read.modules() if isinstance(m, sw.LIF)] == [1.0, 1.0]


def test_a_neuron_fires_at_its_threshold_in_the_file_too(tmp_path: Path) -> None:
    """Weights of eighths and inputs of quarters: potentials meet the threshold exactly."""
    net = nn.Sequential(nn.Linear(4, 16), sw.LIF(2.0, reset="zero"), nn.Linear(16, 8), sw.IF(reset="zero"))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((8 * parameter).round() / 4)
    x = torch.randint(-2, 6, (60, 20, 4)) / 4
    report = to_nir(net, x, tmp_path / "net.nir", dt=1e-4, readers=())
    assert all(row.agrees for row in report.rows)
    at = from_nir(tmp_path / "net.nir", comparison=">=")  # the file has the next number below
    with torch.no_grad():
        expected = sw.Network(net).run(x)[0]
        assert torch.equal(sw.Network(at).run(x)[0], expected)
        for neuron in (net[1], net[3]):
            neuron.threshold = 1.0000001
        assert not torch.equal(sw.Network(net).run(x)[0], expected)


def test_the_metadata_say_how_the_file_is_meant(tmp_path: Path) -> None:
    exported("mlp", tmp_path / "net.nir", 1e-3)
    said = from_nir(tmp_path / "net.nir").metadata
    assert said["dt"] == 1e-3 and said["reset"] == "zero" and said["comparison"] == ">"
    assert said["written_by"] == f"spikewright {sw.__version__}"


def test_weights_may_be_on_a_network_in_double_precision(tmp_path: Path, float64: None) -> None:
    _, _, report = exported("residual", tmp_path / "net.nir")
    assert all(row.agrees for row in report.rows)


@pytest.mark.parametrize("strict", [False, True])
def test_thresholds_come_back_as_they_are(strict: bool, tmp_path: Path) -> None:
    """Also those that are no numbers of the type of the file, which rounds them."""
    neuron = sw.CUBALIF(2.0, 3.0, threshold=[1.0, 0.7, 2.0], reset="zero", strict=strict)
    to_nir(nn.Sequential(nn.Linear(4, 3), neuron), torch.randn(5, 2, 4), tmp_path / "net.nir", dt=1e-4, readers=())
    import nir

    content = nir.read(tmp_path / "net.nir").to_dict()
    for source in (tmp_path / "net.nir", content):
        found = from_nir(source, dt=1e-4).get_submodule("1")
        assert isinstance(found, sw.CUBALIF) and found.strict is strict
        assert torch.equal(torch.as_tensor(found.threshold).float(), torch.tensor([1.0, 0.7, 2.0]))
    nodes = content["nodes"]["1"]
    exact = np.array([1.0, 0.7, 2.0], np.float32)
    np.testing.assert_array_equal(nodes["v_threshold"], exact if strict else np.nextafter(exact, np.float32(-1)))


def test_a_neuron_that_fires_above_its_threshold_does_so_in_the_file(tmp_path: Path) -> None:
    """Potentials meet the threshold, where readers that fire at it would differ."""
    net, x, report = exported("strict", tmp_path / "net.nir", 2**-13)
    assert all(row.agrees for row in report.rows)
    with torch.no_grad():
        expected = sw.Network(net).run(x)[0]
        at = sw.Network(from_nir(tmp_path / "net.nir", comparison=">=")).run(x)[0]
    assert not torch.equal(at, expected)


def test_a_potential_is_no_layer_that_never_fires(tmp_path: Path) -> None:
    _, _, report = exported("LI", tmp_path / "net.nir")
    assert report.neurons.keys() == {"1"} and report.rows[0].compared == 30 * 4 * 3
