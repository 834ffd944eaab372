"""Neurons that are fed their own spikes: written as edges of a loop, and read back as the same network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import NetworkError
from spikewright.interop.nir import from_nir, to_nir
from spikewright.interop.recurrence import Scale
from spikewright.layers.feedback import First
from tests.interop.nir.nets import cuba, lif, loud


def recurrent(neuron: sw.Neuron, size: int, bias: bool, first: First) -> nn.Module:
    return sw.Recurrent(neuron, nn.Linear(size, size, bias=bias), first=first)


class Around(nn.Module):
    """A recurrent layer whose spikes also reach the later neurons a step later, or which hears them a step later."""

    def __init__(self, bias: bool, first: First, back: bool) -> None:
        super().__init__()
        self.enter, self.layer = nn.Linear(6, 8), nn.Linear(8, 5)
        self.own, self.last, self.back = recurrent(lif(), 8, bias, first), lif(3.0), back
        sizes, source = ((5, 8), self.last) if back else ((8, 5), self.own)
        self.far = sw.Feedback(nn.Linear(*sizes, bias=bias), source, first=first)

    def forward(self, x: Tensor) -> Tensor:
        if self.back:
            return self.last(self.layer(self.own(self.far(self.enter(x)))))
        return self.last(self.far(self.layer(self.own(self.enter(x)))))


Make = Callable[[bool, First], nn.Module]
NETS: dict[str, Make] = {
    "alone": lambda b, f: nn.Sequential(nn.Linear(6, 8), recurrent(lif(5.0), 8, b, f)),
    "at the input": lambda b, f: recurrent(lif(), 6, b, f),
    "current": lambda b, f: nn.Sequential(nn.Linear(6, 8), recurrent(cuba(), 8, b, f), nn.Linear(8, 4), lif()),
    "two": lambda b, f: nn.Sequential(
        nn.Linear(6, 8), recurrent(lif(), 8, b, f), nn.Linear(8, 5), recurrent(lif(threshold=0.2), 5, b, f)
    ),
    "stacked": lambda b, f: nn.Sequential(nn.Linear(6, 8), recurrent(lif(), 8, b, f), recurrent(lif(3.0), 8, b, f)),
    "delayed": lambda b, f: nn.Sequential(
        nn.Linear(6, 8), recurrent(lif(), 8, b, f), sw.SynapticDelay(8, 3, 1.0), nn.Linear(8, 5), lif(threshold=0.3)
    ),
    "slow": lambda b, f: nn.Sequential(
        nn.Linear(6, 8),
        sw.Recurrent(lif(), nn.Sequential(sw.SynapticDelay(8, 4, 2.0), nn.Linear(8, 8, bias=b)), first=f),
    ),
    "consumer a step later": lambda b, f: Around(b, f, back=False),
    "fed back": lambda b, f: Around(b, f, back=True),
    "made by hand": lambda b, f: by_hand(lif(), b, f),
    "convolution": lambda b, f: nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 3, 3, padding=1),
        sw.Recurrent(lif(), nn.Conv1d(3, 3, 3, padding=1, bias=b), first=f),
    ),
}


def by_hand(neuron: nn.Module, bias: bool, first: First) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), sw.Feedback(nn.Linear(8, 8, bias=bias), neuron, first=first), neuron)


def comes_back(net: nn.Module, x: Tensor, path: Path) -> None:
    report = to_nir(net, x, path, dt=1e-3, readers=())
    assert all(row.agrees for row in report.rows) and not report.silent and not report.rounding
    with torch.no_grad():
        expected, found = sw.Network(net).run(x)[0], sw.Network(from_nir(path)).run(x)[0]
    assert expected.count_nonzero() > 20 and torch.equal(found, expected)


@pytest.mark.parametrize("first", ["nothing", "bias"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_recurrent_layer_comes_back(name: str, bias: bool, first: First, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net, x = NETS[name](bias, first), 4 * torch.randn(25, 3, 6)
    if name == "convolution":
        net, x = net[1:], x.unsqueeze(2)  # type: ignore[index]
    comes_back(loud(net, 3), x, tmp_path / "net.nir")
    with torch.no_grad():  # what is sent back, and when the bias acts, is seen in the output
        expected = sw.Network(net).run(x)[0]
        loop = next(part for part in net.modules() if isinstance(part, sw.Feedback))
        for parameter in loop.transform.parameters():
            parameter.zero_()
    assert not torch.equal(expected, sw.Network(net).run(x)[0])


@pytest.mark.parametrize("first", ["nothing", "bias"])
def test_a_map_of_two_axes_is_sent_back_through_a_convolution(first: First, tmp_path: Path) -> None:
    back = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), sw.Recurrent(lif(), back, first=first))
    comes_back(loud(net, 2), 3 * torch.randn(12, 2, 2, 5, 5), tmp_path / "net.nir")


@pytest.mark.parametrize("name", ["one number", "each", "identity", "two layers"])
def test_other_ways_back(name: str, tmp_path: Path) -> None:
    back: dict[str, nn.Module] = {
        "one number": sw.layers.Scale(-0.7),
        "each": Scale(torch.linspace(-1, 1, 8)),
        "identity": nn.Identity(),
        "two layers": nn.Sequential(nn.Linear(8, 4, bias=False), nn.Linear(4, 8)),
    }
    net = loud(nn.Sequential(nn.Linear(6, 8), sw.Recurrent(lif(), back[name])), 2)
    comes_back(net, 4 * torch.randn(25, 3, 6), tmp_path / "net.nir")


class Uncalled(nn.Module):
    """Feedback from a layer that no step calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(6, 6), lif()
        self.back = sw.Feedback(nn.Identity(), self.layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.back(x))


class Constant(nn.Module):
    """A transform without its input."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(1, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), 6)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "soft": (nn.Sequential(sw.Recurrent(sw.LIF(), nn.Linear(6, 6))), r"'0.neuron' \(LIF\) with reset='subtract'"),
    "operation": (
        nn.Sequential(sw.Recurrent(lif(), nn.Sequential(nn.Linear(6, 6), nn.ReLU()))),
        "relu in the forward of '0.transform.1'",
    ),
    "uncalled": (Uncalled(), r"'back' \(Feedback\), whose source \(Linear\) made no tensor .* Call the source"),
    "constant": (
        nn.Sequential(sw.Feedback(Constant(), neuron := lif()), neuron),
        r"'0' \(Feedback\), whose transform made Tensor that does not depend on what is sent back",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_loop_of_nir_says_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    net, message = REFUSED[name]
    with pytest.raises(NetworkError, match=message):
        to_nir(net, torch.randn(5, 1, 6), tmp_path / "net.nir", dt=1e-3, readers=())
    assert not [*tmp_path.iterdir()]
