"""Recurrent layers of other libraries: the table of `help(Recurrent)`, run beside each library that is installed."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.bench.peers._base import load
from spikewright.layers import Recurrent
from spikewright.network import Network
from spikewright.neurons import LIF

WIDTH, CHANNELS, BETA, TAU = 12, 3, 0.6, 2.7


@pytest.fixture(autouse=True)
def in_float32(in_float64: None) -> None:
    """In which spikes of these libraries are, whatever their input is."""
    torch.set_default_dtype(torch.float32)


def above(threshold: float) -> float:
    """Return the next single-precision number: what a strict comparison needs to be reached."""
    return torch.nextafter(torch.tensor(threshold), torch.tensor(math.inf)).item()


class Scale(nn.Module):
    """A factor of every neuron by itself."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.factor = nn.Parameter(factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def drawn(module: nn.Module) -> nn.Module:
    """The module with weights on a grid, so that currents are exact in any order of the sum, and a large bias."""
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            grid = torch.randint(-3, 4, parameter.shape, generator=source) / 8
            parameter.copy_(grid + 0.375 if name.endswith("bias") else grid)
    return module


Case = tuple[Callable[[Tensor], Tensor], nn.Module, tuple[int, ...]]
"""The layer of a library as a function of a sequence, ours, and the shape of a sample."""


def leaky() -> LIF:
    """Neurons of snnTorch: a reset that comes a step late is a soft one of threshold / beta."""
    return LIF(1 / (1 - BETA), threshold=above(1.0), rest=above(1.0) - 1 / BETA)


def torches(transform: nn.Module, feature: tuple[int, ...], **options: Any) -> Case:
    (library,) = load("snntorch", "snntorch")
    cell = library.RLeaky(BETA, **options)
    cell.recurrent = transform

    def scan(x: Tensor) -> Tensor:
        spikes, membrane = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        out = []
        for step in x:
            spikes, membrane = cell(step, spikes, membrane)
            out.append(spikes)
        return torch.stack(out)

    return scan, Recurrent(leaky(), transform, first="bias"), feature


def jelly(bias: bool) -> Case:
    neuron, layer, functional = load(
        "spikingjelly",
        "spikingjelly.activation_based.neuron",
        "spikingjelly.activation_based.layer",
        "spikingjelly.activation_based.functional",
    )
    lif = neuron.LIFNode(tau=TAU, decay_input=False, v_reset=None)
    container = layer.LinearRecurrentContainer(lif, WIDTH, WIDTH, bias=bias, step_mode="m")
    functional.set_step_mode(container, "m")
    container.sub_module.step_mode = "s"  # the container loops over the steps
    drawn(container)
    front, back = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=bias)
    with torch.no_grad():
        front.weight.copy_(container.rc.weight[:, :WIDTH])
        back.weight.copy_(container.rc.weight[:, WIDTH:])
        if bias:
            back.bias.copy_(container.rc.bias)
    return container, nn.Sequential(front, Recurrent(LIF(TAU), back, first="bias")), (WIDTH,)


def nabs(transform: nn.Module, feature: tuple[int, ...]) -> Case:
    layers, activation = load("sinabs", "sinabs.layers", "sinabs.activation")
    theirs = layers.LIFRecurrent(
        tau_mem=1 / math.log(1 / BETA),
        rec_connect=transform,
        spike_fn=activation.SingleSpike,
        spike_threshold=torch.tensor(1.0),
        norm_input=False,
    )
    own = LIF(1 / (1 - math.exp(-math.log(1 / BETA))))
    ours = Recurrent(own, transform, first="nothing")
    return lambda x: theirs(x.transpose(0, 1)).transpose(0, 1), ours, feature


def linear() -> nn.Module:
    return drawn(nn.Linear(WIDTH, WIDTH))


def convolution() -> nn.Module:
    return drawn(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))


def factor() -> Tensor:
    return torch.randint(-8, 9, (WIDTH,), generator=torch.Generator().manual_seed(3)) / 8


CASES: dict[str, Callable[[], Case]] = {
    "snnTorch, linear": lambda: torches(linear(), (WIDTH,), linear_features=WIDTH),
    "snnTorch, conv": lambda: torches(convolution(), (CHANNELS, 5, 5), conv2d_channels=CHANNELS, kernel_size=3),
    "snnTorch, one to one": lambda: torches(Scale(factor()), (WIDTH,), V=factor(), all_to_all=False),
    "SpikingJelly": lambda: jelly(True),
    "SpikingJelly, no bias": lambda: jelly(False),
    "sinabs, linear": lambda: nabs(linear(), (WIDTH,)),
    "sinabs, conv": lambda: nabs(convolution(), (CHANNELS, 5, 5)),
}
ROWS = {"snnTorch": 2, "SpikingJelly": 1, "sinabs": 1}
"""Lines of the table, by library."""


def made(name: str) -> Case:
    try:
        return CASES[name]()
    except ImportError as error:
        pytest.skip(str(error))


def inputs(feature: tuple[int, ...]) -> Tensor:
    return torch.randint(-4, 9, (60, 40, *feature), generator=torch.Generator().manual_seed(0)) / 4


@pytest.mark.parametrize("name", CASES)
def test_no_spike_differs(name: str) -> None:
    theirs, ours, feature = made(name)
    x = inputs(feature)
    with torch.no_grad():
        expected, found = theirs(x), Network(nn.Sequential(ours))(x)
    assert 0.05 < expected.mean() < 0.95 and torch.equal(found, expected), int((found != expected).sum())


@pytest.mark.parametrize(
    "name", [name for name in CASES if name not in ("snnTorch, one to one", "SpikingJelly, no bias")]
)
def test_the_other_first_step_differs(name: str) -> None:
    """So the table does not name either by chance."""
    theirs, ours, feature = made(name)
    x, layer = inputs(feature), next(m for m in ours.modules() if isinstance(m, Recurrent))
    layer.first = "nothing" if layer.first == "bias" else "bias"
    with torch.no_grad():
        assert (Network(nn.Sequential(ours))(x) != theirs(x)).sum() > 20


def test_every_line_of_the_table_is_run() -> None:
    lines = re.findall(r"^\s*\| (\w+) `.*\|.*\|$", Recurrent.__doc__ or "", re.MULTILINE)
    assert {library: lines.count(library) for library in lines} == ROWS
