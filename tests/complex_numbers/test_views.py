"""A view of known entries that reads them otherwise is not taken for them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from tests.complex_numbers.support import CLASSES, INPUTS, WIDTH, C, Made, drawn, read

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "conjugated": lambda z: z.conj(),
    "imaginary": lambda z: z.imag.to(C),
    "transposed and conjugated": lambda z: z.mH.mT,
    "as it is": lambda z: z.flatten(1),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [1, INPUTS])
def test_a_still_image_is_seen_as_the_network_turns_it(name: str, size: int) -> None:
    module = drawn(nn.Sequential(Made(VIEWS[name]), nn.Linear(size, WIDTH, dtype=C), read("real"), LIF()))
    x = torch.randn(1, 2, size, dtype=C)
    still, moving = x.expand(4, -1, -1), x.repeat(4, 1, 1)
    net = Network(drawn(nn.Sequential(module, nn.Linear(WIDTH, CLASSES))))
    torch.testing.assert_close(net.run(still)[0], net.run(moving)[0])
