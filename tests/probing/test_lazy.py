"""Layers that get their sizes from the first input are, from then on, those that had them from the start."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from tests.oracles.compare import assert_agree
from tests.rules.support import collected, learn

KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "norm": (lambda: nn.BatchNorm1d(8), nn.LazyBatchNorm1d),
    "layer": (lambda: nn.Linear(8, 8), lambda: nn.LazyLinear(8)),
    "in a block": (
        lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),
        lambda: nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d()),
    ),
}


def network(block: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), block(), sw.LIF(threshold=0.1), nn.Linear(8, 3))


def data() -> tuple[Tensor, Tensor]:
    return torch.rand(5, 3, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_they_are_ordinary_after_the_first_look(kind: str, training: bool) -> None:
    ordinary, lazy = (network(block).train(training) for block in KINDS[kind])
    sw.Network(lazy).wiring(data()[0])
    assert all(m.training is training for m in lazy.modules())
    lazy.load_state_dict(ordinary.state_dict())
    for module in (ordinary, lazy):
        learn(sw.rules.BPTT(), module, *data())
    assert_agree(collected(lazy), collected(ordinary))
    for name, value in ordinary.named_buffers():
        assert torch.equal(lazy.get_buffer(name), value), name


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_are_called_by_runs_alone(kind: str) -> None:
    calls: list[str] = []
    module = network(KINDS[kind][1])
    for m in module.modules():
        m.register_forward_hook(lambda *args: calls.append("after"))
        m.register_forward_pre_hook(lambda *args: calls.append("before"))
    net = sw.Network(module)
    net.wiring(data()[0])
    assert calls == []
    net.run(data()[0])
    assert calls.count("before") == calls.count("after") == len(list(module.modules()))
