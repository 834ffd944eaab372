"""Modules that count calls, that the first input sets, or that gather in training what evaluation reads."""

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.probing.support import F


class After(nn.Module):
    """Changes its mind after so many calls, counted in an attribute."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self.bound, self.calls = bound, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x if self.calls < self.bound else 0.5 * x


class AfterTime(nn.Module):
    """The same, in a sum of step sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.time += 1e-3
        return x * min(1.0, 0.5 + max(0.0, self.time - 1.0))


class OfClass(nn.Module):
    """Counts in an attribute of the class."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return x if OfClass.calls < 20 else 0.5 * x


class OfBase(OfClass):
    def forward(self, x: Tensor) -> Tensor:
        OfClass.calls += 1
        return x if OfClass.calls < 77 else 0.5 * x


class InBuffer(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.long) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.where(self.calls < 5_000, x, 0.5 * x)


class Scripted(nn.Module):
    calls: int

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls < 100:
            return x
        return 0.5 * x


class FrozenMembrane(nn.Module):
    """Keeps its membrane in a parameter that is not trained."""

    def __init__(self, size: float = 1.0) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.zeros(F), requires_grad=False)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        self.v.mul_(0.5).add_(self.size * x.detach().mean(0))
        return x + self.v


class HiddenMembrane(FrozenMembrane):
    """Past the counter of versions."""

    def forward(self, x: Tensor) -> Tensor:
        self.v.data.copy_(0.5 * self.v.data + x.detach().mean(0))
        return x + (self.v > 4.0)


class NewMemory(FrozenMembrane):
    """Gives its parameter other memory at every call."""

    def forward(self, x: Tensor) -> Tensor:
        self.v.data = 0.5 * self.v.data + x.detach().mean(0)
        return x + self.v


class OnParameter(nn.Module):
    """Counts on a parameter, and puts hooks on it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(F))
        self.weight.calls = 0  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        self.weight.calls += 1  # type: ignore[attr-defined]
        self.weight.register_hook(lambda grad: None)
        return x * self.weight * (1.0 if self.weight.calls < 50 else 2.0)  # type: ignore[attr-defined]


@dataclass(slots=True)
class Slots:
    calls: int = 0


class Inside(nn.Module):
    """Counts inside of something."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.slots, self.user, self.list, self.dict = Slots(), UserDict({"calls": 0}), [0], {"deep": {"calls": 0}}
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        self.slots.calls += 1
        self.user["calls"] += 1
        self.list[0] += 1
        self.dict["deep"]["calls"] += 1
        calls = {
            "slots": self.slots.calls,
            "user": self.user["calls"],
            "list": self.list[0],
            "dict": self.dict["deep"]["calls"],
        }
        return x if calls[self.kind] < 300 else 0.5 * x


class ScriptedMembrane(nn.Module):
    v: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.v = None

    def forward(self, x: Tensor) -> Tensor:
        v = self.v
        y = x if v is None else x + 0.5 * v
        self.v = x.detach()
        return y


class TrainedMembrane(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.zeros(F))

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.v
        self.v.data += 0.1 * x.detach().mean(0)
        return y


STATES: dict[str, Callable[[], nn.Module]] = {
    **{f"after {bound} calls": lambda bound=bound: After(bound) for bound in (40, 200, 5_000, 100_000)},
    "after a time": AfterTime,
    "of the class": OfClass,
    "of a base": OfBase,
    "in a buffer": InBuffer,
    "in a buffer of floats": lambda: InBuffer(torch.float64),
    "scripted": lambda: torch.jit.script(Scripted()),
    "scripted membrane": lambda: torch.jit.script(ScriptedMembrane()),
    **{f"inside {kind}": lambda kind=kind: Inside(kind) for kind in ("slots", "user", "list", "dict")},
    "on a parameter": OnParameter,
    "frozen parameter": FrozenMembrane,
    "frozen parameter with new memory": NewMemory,
    "frozen parameter without a version": HiddenMembrane,
    "trained parameter": TrainedMembrane,
}


class ActNorm(nn.Module):
    """Scale and shift from the statistics of the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(F)), nn.Parameter(torch.zeros(F))
        self.register_buffer("ready", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.ready.item() == 0:
            with torch.no_grad():
                self.scale.copy_(1 / (x.std(0) + 0.1))
                self.shift.copy_(-x.mean(0))
                self.ready.fill_(1)
        return (x + self.shift) * self.scale


class FirstRange(nn.Module):
    """Divides by the range of the first batch, which it keeps in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.range: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.range is None:
            self.range = float(x.detach().abs().max())
        return x / (self.range + 1)


class FirstBuffer(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", None)

    def forward(self, x: Tensor) -> Tensor:
        if self.mean is None:
            self.mean = x.detach().mean(0)
        return x - self.mean


SET: dict[str, Callable[[], nn.Module]] = {"ActNorm": ActNorm, "range": FirstRange, "buffer": FirstBuffer}


class Gathers(nn.Module):
    """Centres by a running mean in evaluation, by the row in training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(F))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.mean
        self.mean += 0.1 * (x.detach().mean(0) - self.mean)
        return x - x.mean(1, keepdim=True)


class GathersByHand(nn.Module):
    """The same, in an attribute that is made anew."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            return x
        return x - self.mean


class Ranges(nn.Module):
    """Clips to the range it has seen, once it evaluates."""

    def __init__(self) -> None:
        super().__init__()
        self.most = nn.Parameter(torch.zeros(F), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.most.copy_(torch.maximum(0.9 * self.most, x.detach().amax(0)))
            return x
        return x.minimum(self.most)


class Instances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(3, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.view(-1, 3, F // 3)).flatten(1)


class WeightAverage(nn.Module):
    """Evaluates with a mean of its weights, which is these at first."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(F, F)
        self.register_buffer("mean", self.inner.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.linear(x, self.mean, self.inner.bias)
        self.mean.lerp_(self.inner.weight.detach(), 0.1)
        return self.inner(x)


class WeightAverageInArray(WeightAverage):
    """Writes to the mean through an array of the same memory."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.linear(x, self.mean, self.inner.bias)
        torch.from_numpy(self.mean.numpy()).lerp_(self.inner.weight.detach(), 0.1)
        return self.inner(x)


GATHERED: dict[str, Callable[[], nn.Module]] = {
    "running mean": Gathers,
    "running mean in an attribute": GathersByHand,
    "range in a frozen parameter": Ranges,
    "instance norm": Instances,
    "mean of weights": WeightAverage,
    "mean of weights in an array": WeightAverageInArray,
    "scripted": lambda: torch.jit.script(Gathers()),
}


class Clipped(nn.Module):
    """Clips its weight before it uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(F, F)

    def forward(self, x: Tensor) -> Tensor:
        self.inner.weight.data.clamp_(-0.05, 0.05)
        return self.inner(x)


class Cached(nn.Module):
    """Keeps a table by size."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[1]
        if size not in self.tables:
            self.tables[size] = torch.linspace(0, 1, size, dtype=x.dtype)
        return x + self.tables[size]


class Monitored(nn.Module):
    """A running mean that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(F))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean += 0.1 * (x.detach().mean(0) - self.mean)
        return x.tanh()


class Sparse(nn.Module):
    """Multiplies by a sparse matrix, in a buffer or an attribute."""

    def __init__(self, layout: torch.layout = torch.sparse_coo, as_buffer: bool = True) -> None:
        super().__init__()
        dense = torch.eye(F, dtype=torch.float64) + torch.eye(F, dtype=torch.float64).roll(1, 0)
        matrix = dense.to_sparse(layout=layout)
        if as_buffer:
            self.register_buffer("matrix", matrix)
        else:
            self.matrix = matrix

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(self.matrix, x.T).T


FREE: dict[str, Callable[[], nn.Module]] = {
    "clipped": Clipped,
    "cached": Cached,
    "monitored": Monitored,
    "scripted monitor": lambda: torch.jit.script(Monitored()),
    "sparse": Sparse,
    "sparse rows": lambda: Sparse(torch.sparse_csr),
    "sparse attribute": lambda: Sparse(as_buffer=False),
}
