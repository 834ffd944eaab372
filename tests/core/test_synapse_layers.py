"""Every kind of linear layer as the synapse of the last neurons, where a trace gives the gradient of BPTT."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import OTTT
from tests.core.support import CE, lively

IMAGE, ROW, VOLUME = (2, 7, 7), (2, 9), (2, 5, 5, 5)


class Doubled(nn.Linear):
    """A linear layer with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(2 * input, self.weight, bias=self.bias)


Case = tuple[Callable[[], nn.Module], tuple[int, ...]]
LAYERS: dict[str, Case] = {
    "linear": (lambda: nn.Linear(8, 5), (8,)),
    "linear, no bias": (lambda: nn.Linear(8, 5, bias=False), (8,)),
    "linear over positions": (lambda: nn.Linear(8, 5), (3, 8)),
    "subclass": (lambda: Doubled(8, 5), (8,)),
    "weight norm": (lambda: weight_norm(nn.Linear(8, 5)), (8,)),
    "spectral norm": (lambda: spectral_norm(nn.Linear(8, 5)).eval(), (8,)),
    "convolution": (lambda: nn.Conv2d(2, 4, 3), IMAGE),
    "grouped": (lambda: nn.Conv2d(2, 4, 3, groups=2), IMAGE),
    "strided": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), IMAGE),
    "dilated": (lambda: nn.Conv2d(2, 4, 3, dilation=2), IMAGE),
    "same, odd": (lambda: nn.Conv2d(2, 4, 3, padding="same"), IMAGE),
    "circular": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), IMAGE),
    "reflect, same": (lambda: nn.Conv2d(2, 4, (4, 3), padding="same", padding_mode="reflect"), IMAGE),
    "transposed": (lambda: nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1), IMAGE),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(2, 4, 3, groups=2), IMAGE),
    "weight-normed convolution": (lambda: weight_norm(nn.Conv2d(2, 4, 3)), IMAGE),
    "one dimension": (lambda: nn.Conv1d(2, 4, 3), ROW),
    "one dimension, same, even": (lambda: nn.Conv1d(2, 4, 4, padding="same"), ROW),
    "one dimension, transposed": (lambda: nn.ConvTranspose1d(2, 4, 3, stride=2), ROW),
    "three dimensions": (lambda: nn.Conv3d(2, 4, 3, padding=1), VOLUME),
    "three dimensions, transposed": (lambda: nn.ConvTranspose3d(2, 4, 2, stride=2), VOLUME),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch, of its own copy of the input
@pytest.mark.parametrize("tau", [1.0, 2.0])
@pytest.mark.parametrize("name", LAYERS)
def test_a_trace_is_exact(name: str, tau: float) -> None:
    build, shape = LAYERS[name]
    layer = lively(build())
    width = layer(torch.zeros(1, *shape)).numel()
    net = Network(nn.Sequential(layer, LIF(tau=tau), nn.Flatten(), nn.Linear(width, 3)))
    found = certify(net, OTTT(), torch.rand(5, 2, *shape), torch.tensor([0, 2]), CE)
    assert found.ok, found.table()
    assert all(row.exact and not row.vanishing and row.relative_error < 1e-12 for row in found.rows), found.table()
