"""Weights that a run leaves open in plain torch, in a process that cannot import this library."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import spikewright as sw

PLAIN = """
import sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "spikewright":
            raise ImportError("not here")
sys.meta_path.insert(0, Refusing())
import torch
from torch import nn
from safetensors.torch import load_file

class Same(nn.Module):  # in the place of neurons, which have no parameters
    pass

module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), Same(), nn.Flatten(), nn.Linear(8, 3))
kind, path, out = sys.argv[1:]
if kind == "pt":
    stored = torch.load(path, weights_only=True)
else:
    stored = {k.removeprefix("parts.model."): v for k, v in load_file(path).items() if k.startswith("parts.model.")}
print(module.load_state_dict(stored))
torch.save(module.state_dict(), out)
assert "spikewright" not in sys.modules
"""


def network() -> sw.Network:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), sw.LIF(), nn.Flatten(), nn.Linear(8, 3))
    return sw.Network(module)


def opened(kind: str, path: Path, out: Path) -> dict[str, torch.Tensor]:
    done = subprocess.run([sys.executable, "-c", PLAIN, kind, str(path), str(out)], capture_output=True, text=True)
    assert done.returncode == 0 and "All keys matched" in done.stdout, done.stderr
    return torch.load(out, weights_only=True)


def check_same(found: dict[str, torch.Tensor], net: sw.Network) -> None:
    own = net.module.state_dict()
    assert found.keys() == own.keys() and all(torch.equal(found[name], own[name]) for name in own)


@pytest.mark.long
def test_a_released_module_is_saved_as_always(tmp_path: Path) -> None:
    net = network()
    torch.save(net.release().state_dict(), tmp_path / "net.pt")
    check_same(opened("pt", tmp_path / "net.pt", tmp_path / "out.pt"), net)


@pytest.mark.long
def test_the_weights_of_a_run(tmp_path: Path) -> None:
    net = network()
    data = [(torch.rand(3, 4, 1, 4, 4), torch.tensor([0, 1, 2, 0])) for _ in range(2)]
    optimizer, loss = torch.optim.SGD(net.parameters(), lr=0.1), sw.losses.PerStep(nn.CrossEntropyLoss())
    sw.fit(net, sw.rules.SLTT(), loss, optimizer, data, out=tmp_path / "run", progress=False)
    check_same(opened("safetensors", tmp_path / "run" / "last.safetensors", tmp_path / "out.pt"), net)
