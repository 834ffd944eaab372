"""Small networks with data, by name, which together cover the structures that a learning rule can meet."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikewright.layers.delay import SynapticDelay
from spikewright.layers.feedback import Feedback
from spikewright.neurons import IF, LIF
from spikewright.surrogate import Sigmoid

STEPS, BATCH, CLASSES = 6, 3, 4
Example = tuple[nn.Module, Tensor, Tensor]
"""A module in double precision that takes one step, its input `[time, batch, *feature]`, and classes `[batch]`."""


def lif(tau: float = 2.0, reset: str = "subtract", detach_reset: bool = True) -> LIF:
    """Return leaky neurons that fire at 1."""
    return LIF(tau=tau, threshold=1.0, reset=reset, detach_reset=detach_reset, surrogate=Sigmoid(4.0))  # type: ignore[arg-type]


def integrate() -> IF:
    """Return neurons without leak that fire at 1."""
    return IF(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(4.0))


def mlp(first: nn.Module, second: nn.Module) -> nn.Module:
    """Return three linear layers with the given neurons between them."""
    return nn.Sequential(nn.Linear(8, 12), first, nn.Linear(12, 10), second, nn.Linear(10, 4))


def conv() -> nn.Module:
    """Return convolutions, one of them in groups, with a pooling layer."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        lif(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        lif(),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


class Residual(nn.Module):
    """An identity skip: the spikes of the stem are added to the current of the next neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(2, 6, 3, padding=1), lif()
        self.conv1, self.inner = nn.Conv2d(6, 6, 3, padding=1), lif(1.5)
        self.conv2, self.last = nn.Conv2d(6, 6, 3, padding=1), lif(3.0)
        self.pool, self.out = nn.AvgPool2d(2), nn.Linear(54, 4)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(self.stem(x))
        x = self.last(skip + self.conv2(self.inner(self.conv1(skip))))
        return self.out(self.pool(x).flatten(1))


class Branching(nn.Module):
    """Two branches from one spike layer, one through neurons of its own, meet in the current of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.root = nn.Linear(8, 12), lif(1.5)
        self.left = nn.Linear(12, 10)
        self.right, self.side = nn.Linear(12, 10), lif(5.0)
        self.join, self.out = lif(), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        root = self.root(self.stem(x))
        return self.out(self.join(self.left(root) + self.side(self.right(root))))


class Shared(nn.Module):
    """One neuron module at two places of the same width, which must not share a membrane."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.lif = lif()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lif(self.fc2(self.lif(self.fc1(x)))))


class Masked(nn.Module):
    """Currents of the last neurons are masked by what the input holds: a factor that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.first, self.fc2, self.last = nn.Linear(8, 12), lif(), nn.Linear(12, 10), lif(3.0)
        self.out = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = (x.sum(1, keepdim=True) > 5.5).to(x)
        return self.out(self.last(self.fc2(self.first(self.fc1(x))) * mask))


def feedback() -> nn.Module:
    """Return a network whose last neurons send back to the first."""
    source = lif(3.0)
    back = Feedback(nn.Linear(10, 12), source=source)
    return nn.Sequential(nn.Linear(8, 12), back, lif(1.5), nn.Linear(12, 10), source, nn.Linear(10, 4))


def deep() -> nn.Module:
    """Return three layers of neurons with one leak."""
    hidden = [nn.Linear(8, 12), lif(), nn.Linear(12, 12), lif(), nn.Linear(12, 10), lif()]
    return nn.Sequential(*hidden, nn.Linear(10, 4))


def delayed() -> nn.Module:
    """Return a network with learned delays."""
    first = [nn.Linear(8, 12), lif(), SynapticDelay(12), nn.Linear(12, 10), lif(3.0)]
    return nn.Sequential(*first, nn.Linear(10, 4))


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(lif(), lif()),
    "two_leaks": lambda: mlp(lif(1.5), lif(5.0)),
    "conv": conv,
    "residual": Residual,
    "branching": Branching,
    "feedback": feedback,
    "deep": deep,
    "shared": Shared,
    "hard_reset": lambda: mlp(lif(reset="zero"), lif(reset="zero")),
    "attached": lambda: mlp(lif(detach_reset=False), lif(detach_reset=False)),
    "delayed": delayed,
    "if_net": lambda: mlp(integrate(), integrate()),
    "masked": Masked,
}
FEATURES = {"conv": (2, 8, 8), "residual": (2, 6, 6)}


def _drawn(name: str, parameter: Tensor, source: torch.Generator) -> Tensor:
    """Return a value that keeps every layer of neurons alive."""
    noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
    if parameter.dim() > 1:
        return 2.5 / math.sqrt(math.prod(parameter.shape[1:])) * noise
    return 1.5 * noise - 1 if "delay" in name else 0.45 + 0.2 * noise


def example(name: str, seed: int = 0) -> Example:
    """Return a network of `NETS` with its data, the same at every call.

    Args:
        name: Name of the network.  A key of `NETS`.
        seed: Seed of weights and data.  Whole number.  Default: 0.
    """
    module, source = BUILDERS[name]().double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter, value in module.named_parameters():
            value.copy_(_drawn(parameter, value, source))
    x = 1.5 * torch.rand(STEPS, BATCH, *FEATURES.get(name, (8,)), generator=source, dtype=torch.float64)
    return module, x, torch.randint(CLASSES, (BATCH,), generator=source)


def _of(name: str) -> Callable[[], Example]:
    return lambda: example(name)


NETS: dict[str, Callable[[], Example]] = {name: _of(name) for name in BUILDERS}
"""Functions that return a network's module with an input and targets, by name of the network."""
