"""Modules made by TorchScript have no attributes of their own, some of them; they run as what they were made from."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as f

from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.rules import OTTT
from tests.probing.support import F, around, data, refused, wired

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, which has given TorchScript up

MADE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "traced": lambda m: torch.jit.trace(m, torch.rand(1, F, dtype=torch.float64)),
    "scripted": torch.jit.script,
    "frozen": lambda m: torch.jit.freeze(torch.jit.script(m.eval())),
}


@pytest.mark.parametrize("name", MADE)
def test_they_run_and_are_learned_around(name: str) -> None:
    plain = around(nn.Sequential(nn.Linear(F, F), nn.Tanh()))
    made = nn.Sequential(*plain)
    made[1] = MADE[name](plain[1])
    x, y = data(), torch.arange(5) % 4
    torch.testing.assert_close(Network(made)(x), Network(plain)(x), rtol=0, atol=0)
    found = []
    for module in (plain, made):
        module.zero_grad()
        list(OTTT().updates(Network(module, known=["1.0.weight", "1.0.bias"]), x, y, PerStep(f.cross_entropy)))
        found.append([module[i].weight.grad.clone() for i in (2, 4)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["traced", "scripted"])
def test_what_mixes_rows_in_them_is_seen(name: str) -> None:
    norm, x = nn.BatchNorm1d(F).double(), torch.rand(3, F, dtype=torch.float64)
    refused(around(torch.jit.script(norm) if name == "scripted" else torch.jit.trace(norm, x)), "it mixes the rows")


def test_and_what_draws() -> None:
    assert wired(around(torch.jit.script(nn.Dropout()))).random == {"1"}
