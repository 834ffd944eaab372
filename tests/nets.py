"""Small plain networks that cover what a learning rule can meet; `tests/oracles/programs.py` has each one again.

`NETS[name](seed)` is a float64 module that takes one step `[batch, *feature]`; `sample(name, seed)` is its data.
"""

from collections.abc import Callable

from torch import Tensor, nn

from spikewright.layers.delay import SynapticDelay
from spikewright.layers.feedback import Feedback
from spikewright.neurons import IF, LIF
from spikewright.surrogate import Sigmoid
from tests.oracles.draw import sample, weights

__all__ = ["NETS", "sample"]


def lif(tau: float = 2.0, reset: str = "subtract", detach_reset: bool = True) -> LIF:
    return LIF(tau=tau, threshold=1.0, reset=reset, detach_reset=detach_reset, surrogate=Sigmoid(4.0))


def integrate() -> IF:
    return IF(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(4.0))


def mlp(first: nn.Module, second: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), first, nn.Linear(12, 10), second, nn.Linear(10, 4))


def conv() -> nn.Module:
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


def feedback() -> nn.Module:
    source = lif(3.0)
    back = Feedback(nn.Linear(10, 12), source=source)
    return nn.Sequential(nn.Linear(8, 12), back, lif(1.5), nn.Linear(12, 10), source, nn.Linear(10, 4))


def deep() -> nn.Module:
    hidden = [nn.Linear(8, 12), lif(), nn.Linear(12, 12), lif(), nn.Linear(12, 10), lif()]
    return nn.Sequential(*hidden, nn.Linear(10, 4))


def delayed() -> nn.Module:
    first = [nn.Linear(8, 12), lif(), SynapticDelay(12), nn.Linear(12, 10), lif(3.0)]
    return nn.Sequential(*first, nn.Linear(10, 4))


def seeded(name: str, build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """The module of `build` in float64 with the drawn parameters of the network `name`."""

    def make(seed: int) -> nn.Module:
        net = build().double()
        net.load_state_dict(weights(name, seed))
        return net

    return make


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
}
NETS = {name: seeded(name, build) for name, build in BUILDERS.items()}
