"""Files of ONNX: onnxruntime computes what the network computes."""

from pathlib import Path
from typing import Any

import pytest
import torch

import spikewright as sw
from spikewright.errors import ConfigError
from spikewright.interop import onnx, to_onnx
from tests.interop.test_exporting import network

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*LeafSpec")


@pytest.fixture(autouse=True)
def single_precision() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


def needed() -> Any:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "name", ["soft", "hard", "late and strict", "several spikes", "current", "adaptive", "recurrent", "conv", "delays"]
)
def test_one_step(name: str, tmp_path: Path) -> None:
    runtime = needed()
    net, x = network(name)
    exported = to_onnx(net, x, tmp_path / "net.onnx")
    assert exported.path == tmp_path / "net.onnx" and [row.differing for row in exported.rows] == [0] * len(
        exported.rows
    )
    session = runtime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == exported.names[0]
    assert [each.name for each in session.get_outputs()] == exported.names[1]
    states = {name: value[:2].numpy() for name, value in exported.rest.items()}  # another batch than when it was traced
    sent: list[torch.Tensor] = []
    for step in x[:, :2]:
        output, *after = session.run(None, {"x": step.numpy(), **states})
        states = dict(zip(states, after, strict=True))
        sent.append(torch.from_numpy(output))
    expected = net.run(x[:, :2])[0]
    assert expected.any() and torch.allclose(torch.stack(sent), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["soft", "conv", "recurrent with bias"])
def test_a_whole_run(name: str, tmp_path: Path) -> None:
    runtime = needed()
    net, x = network(name)
    exported = to_onnx(net, x, tmp_path / "net.onnx", steps="unrolled")
    session = runtime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"x": x.numpy()})
    assert torch.allclose(torch.from_numpy(output), net.run(x)[0], atol=1e-5)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "_is_there", lambda package: package != "onnxruntime")
    net = sw.Network(torch.nn.Sequential(sw.LIF()))
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed.*spikewright\[onnx\]"):
        to_onnx(net, torch.rand(2, 1, 3), tmp_path / "net.onnx")
