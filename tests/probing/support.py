"""What the tests of the network check share."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.neurons import LIF

F, T, N = 12, 4, 5
"""Features, steps and samples of the inputs here."""


def data(kind: str = "random", samples: int = N) -> Tensor:
    """An input `[T, samples, F]`."""
    source = torch.Generator().manual_seed(1)
    made = {
        "random": lambda: torch.rand(T, samples, F, generator=source, dtype=torch.float64),
        "zeros": lambda: torch.zeros(T, samples, F, dtype=torch.float64),
        "constant": lambda: torch.full((T, samples, F), 0.7, dtype=torch.float64),
        "integers": lambda: torch.randint(0, 9, (T, samples, F), generator=source),
    }
    return made[kind]()


def around(layer: nn.Module, behind: int = 0) -> nn.Sequential:
    """A network with a layer between two linear ones, behind as many layers of neurons as asked."""
    torch.default_generator.manual_seed(0)
    front = [m for _ in range(behind) for m in (nn.Linear(F, F), LIF())]
    return nn.Sequential(*front, nn.Linear(F, F), layer, nn.Linear(F, F), LIF(), nn.Linear(F, 4)).double()


def wired(module: nn.Module, x: Tensor | None = None) -> Wiring:
    """The wiring, after all checks."""
    return Network(module).wiring(data() if x is None else x)


def refused(module: nn.Module, match: str, x: Tensor | None = None) -> None:
    """Check that a network is refused with a message."""
    with pytest.raises(NetworkError, match=match):
        wired(module, x)
