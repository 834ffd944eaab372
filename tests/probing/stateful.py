"""Modules that keep something between calls: what a run cannot carry, and what does not matter to it."""

import warnings
from collections import deque
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from spikewright.layers import restrict_frobenius, restrict_spectral
from spikewright.neurons import LIF
from spikewright.temporal import SiteState, Temporal
from tests.probing.support import F


class OwnNeuron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.5 * self.v + x
        spikes = (self.v > 0.2).to(x)
        self.v = self.v - 0.2 * spikes
        return spikes + 0.0 * x


class OwnLIF(nn.Module):
    """Fires rarely, and then forgets all."""

    def __init__(self, leak: float = 0.5) -> None:
        super().__init__()
        self.leak = leak
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        v = self.leak * self.v + x
        spikes = (v > 1.0).to(x)
        self.v = (v * (1 - spikes)).detach()
        return spikes


class OwnIF(OwnLIF):
    def __init__(self) -> None:
        super().__init__(1.0)


class Scanned(LIF):
    """A neuron that keeps its membrane on itself, not in the state it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Any = 0.0

    def scan(self, current: Tensor, state: SiteState, through_time: bool = True) -> tuple[Tensor, SiteState]:
        spikes = []
        for step in current:
            self.v = (0.5 * self.v + step).detach()
            spikes.append((self.v > 1.0).to(step))
            self.v = self.v * (1 - spikes[-1])
        return torch.stack(spikes), {}


class Remembers(Temporal):
    """A layer that sees time, but keeps what it remembers on itself."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = 0.0

    def scan(self, chunk: Tensor, state: SiteState, through_time: bool = True) -> tuple[Tensor, SiteState]:
        y = chunk + 0.5 * self.last
        self.last = chunk[-1].detach()
        return y, {}


class LongDelay(nn.Module):
    """Emits nothing before it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.line: deque[Tensor] = deque()

    def forward(self, x: Tensor) -> Tensor:
        self.line.append(x.detach())
        return torch.zeros_like(x) if len(self.line) <= 5 else self.line.popleft()


class Averages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(F))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return x - self.mean


class SlowAverages(Averages):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.001)
        return x - self.mean


class Float(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.scale = 0.9 * self.scale + 0.1 * float(x.detach().abs().mean())
        return x / self.scale


class InList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.past: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.past.append(x.detach())
        return torch.stack(self.past).sum(0)


class InDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.kept.get("last", torch.zeros_like(x))
        self.kept["last"] = x.detach()
        return y


class Delayed(nn.Module):
    """A delay line: zeros for the first two calls, then what arrived two calls before."""

    def __init__(self, steps: int = 2) -> None:
        super().__init__()
        self.line: deque[Tensor] = deque(maxlen=steps)

    def forward(self, x: Tensor) -> Tensor:
        out = self.line[0] if len(self.line) == self.line.maxlen else torch.zeros_like(x)
        self.line.append(x.detach())
        return out + 0.1 * x


class InNamespace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mem = SimpleNamespace(v=0.0)

    def forward(self, x: Tensor) -> Tensor:
        self.mem.v = self.mem.v + x.detach()
        return x + self.mem.v


class OnSubmodule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        last = getattr(self.inner, "last", None)
        self.inner.last = x.detach()
        return self.inner(x) if last is None else self.inner(x) + 0.3 * last


class Lazily(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "v"):
            self.v = torch.zeros_like(x)
        self.v = 0.5 * self.v + x.detach()
        return x + self.v


class Toggling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.on = False

    def forward(self, x: Tensor) -> Tensor:
        self.on = not self.on
        return x if self.on else -x


class ByCount(nn.Module):
    """Warms up with the number of calls, which is in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 - 0.5 ** int(self.calls))


class InClosure(nn.Module):
    """Holds what a snapshot of attributes does not reach."""

    def __init__(self) -> None:
        super().__init__()
        kept = [0.0]

        def step(x: Tensor) -> Tensor:
            kept[0] = 0.5 * kept[0] + float(x.detach().sum())
            return x + kept[0]

        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


STATEFUL: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (
        OwnNeuron,
        OwnLIF,
        OwnIF,
        Scanned,
        Remembers,
        LongDelay,
        Averages,
        SlowAverages,
        Float,
        InList,
        InDict,
        Delayed,
        InNamespace,
        OnSubmodule,
        Lazily,
        Toggling,
        ByCount,
        InClosure,
    )
}


class Recurrent(nn.Module):
    """Keeps the spikes of the last call on itself: as an input of a layer, or added to a current."""

    def __init__(self, layer: bool, lazily: bool = False) -> None:
        super().__init__()
        self.fc, self.rec = nn.Linear(F, F), nn.Linear(F, F) if layer else nn.Identity()
        self.lif, self.out = LIF(), nn.Linear(F, 4)
        self.layer, self.lazily, self.spikes = layer, lazily, None

    def forward(self, x: Tensor) -> Tensor:
        current = self.fc(x)
        if self.spikes is not None or not self.lazily:
            last = torch.zeros_like(current) if self.spikes is None else self.spikes
            current = current + (self.rec(last) if self.layer else 0.5 * last)
        self.spikes = self.lif(current)
        return self.out(self.spikes)


class OwnMembrane(nn.Module):
    """Adds what it keeps to a current, with no module in between."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.out = nn.Linear(F, F), LIF(), nn.Linear(F, 4)
        self.v: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.5 * self.v + self.fc(x).detach()
        return self.out(self.lif(self.fc(x) + self.v))


class OutputAverage(nn.Module):
    """Averages its outputs over calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.out = nn.Linear(F, F), LIF(), nn.Linear(F, 4)
        self.mean: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.lif(self.fc(x)))
        self.mean = 0.5 * self.mean + 0.5 * y
        return self.mean


RECURRENT = {
    "through a layer": lambda: Recurrent(True),
    "through a layer, from the second call on": lambda: Recurrent(True, lazily=True),
    "added to the current": lambda: Recurrent(False),
    "added to the current, from the second call on": lambda: Recurrent(False, lazily=True),
    "own membrane": OwnMembrane,
    "average of outputs": OutputAverage,
}


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += len(x)
        return x


class Inspected(nn.Module):
    """Keeps what it saw last, and a list of means, for others to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.last, self.before = x, self.last
        self.means.append(float(x.detach().mean()))
        return torch.tanh(x)


class Table(nn.Module):
    """Makes a constant table at the first call."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[1], dtype=x.dtype)
        return x + self.table


class Sparsity(nn.Module):
    """Hands back how many entries it has counted, which nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.counted = Counted()

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.counted(x)
        return x


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.total += (x.detach() > 0).sum()
        return self.total.clone()


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Linear(F, F), "weight", 0.3)


def normed_by_hook() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(F, F))


STATELESS = {
    "counter": Counter,
    "inspected": Inspected,
    "table": Table,
    "counted by a module": Sparsity,
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(F, F)),
    "spectral norm by hook": lambda: nn.utils.spectral_norm(nn.Linear(F, F)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(F, F)),
    "weight norm by hook": normed_by_hook,
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(F, F)),
    "pruned": pruned,
    "restricted spectral": lambda: restrict_spectral(nn.Linear(F, F), 0.5),
    "restricted frobenius": lambda: restrict_frobenius(nn.Linear(F, F), 0.5),
}
