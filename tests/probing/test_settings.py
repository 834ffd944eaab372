"""A wiring is read anew when a plain value changes in an object that is an attribute of a module."""

import argparse
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from tests.rules.support import CE


class Settings:
    """Of a class that is neither a container nor a dataclass."""

    def __init__(self) -> None:
        self.gate = False


class Gated(nn.Module):
    def __init__(self, settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.settings, self.a, self.b, self.out = settings, nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.n, self.m = sw.LIF(threshold=0.4), sw.LIF(threshold=0.4)

    def forward(self, x: Tensor) -> Tensor:
        current = self.b(self.n(self.a(x)))
        if hasattr(self.settings, "calls"):
            self.settings.calls += 1
        return self.out(self.m(current * torch.sigmoid(current) if self.settings.gate else current))


OBJECTS = {
    "of a class": Settings,
    "argparse": lambda: argparse.Namespace(gate=False),
    "with a counter": lambda: argparse.Namespace(gate=False, calls=0),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_promises_follow_them(kind: str) -> None:
    settings = OBJECTS[kind]()
    net, x = sw.Network(Gated(settings).double()), 1.5 * torch.randn(5, 3, 6, dtype=torch.float64)
    for gate in (False, True, False):
        settings.gate = gate
        found = sw.certify(net, sw.rules.OTTT(), x, torch.tensor([0, 1, 2]), CE)
        assert found.ok
        assert {row.site for row in found.rows if row.exact} >= {"out.weight"}
        assert ("b.weight" in {row.site for row in found.rows if row.exact}) is not gate


def test_what_a_forward_counts_is_no_reason_to_look_again() -> None:
    settings = argparse.Namespace(gate=False, calls=0)
    net, x = sw.Network(Gated(settings)), torch.rand(5, 3, 6)
    net.run(x)
    before = settings.calls
    for _ in range(3):
        net.run(x)
    assert settings.calls == before + 3
