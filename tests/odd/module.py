"""The module that constructs change: a chain of layers and neurons, with room for odd things everywhere."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
WIDTH, CLASSES, TOKENS = 12, 4, 6
MARK = 2.0
"""Data above this lie in the last sample of every step only, and only where a construct asks for it."""


@dataclass
class Seen:
    """What a forward has come by.

    Attributes:
        net: The network.
        raw: Its input as it arrived, `[rows, WIDTH]`; integers or real numbers.
        x: The same as real numbers.
        arrived: What every layer so far was given.
        currents: What every layer so far made of it.
        spikes: What all neurons so far emitted.
    """

    net: "OddNet"
    raw: Tensor
    x: Tensor
    arrived: list[Tensor] = field(default_factory=list)
    currents: list[Tensor] = field(default_factory=list)
    spikes: list[Tensor] = field(default_factory=list)


class Step(nn.Module):
    """A function of a value and of what the forward has come by; `parts` are its modules and parameters."""

    def __init__(self, function: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, value: Tensor, seen: Seen) -> Tensor:
        return self.function(self, value, seen)


class Plain(nn.Module):
    """A module of one argument as a step."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, value: Tensor, seen: Seen) -> Tensor:
        return self.inner(value)


class OddNet(nn.Module):
    """Layers and neurons in turn, a readout, and steps in between.

    Args:
        depth: How many neuron layers.
        integers: The input is made of whole numbers.
    """

    def __init__(self, depth: int, integers: bool) -> None:
        super().__init__()
        self.depth, self.integers = depth, integers
        self.front = nn.ModuleList()
        """Steps on the input."""
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(depth))
        self.order = list(range(depth))
        """The layer that is called at each place."""
        self.steps = nn.ModuleDict()
        """Steps in front of layers and behind them, where there are any."""
        self.neurons = nn.ModuleList()
        self.maps: list[tuple[int, ...] | None] = [None] * depth
        """The shape in which neurons see a current, if it is not a vector."""
        self.last = nn.ModuleList()
        """Steps between the last neurons and the readout."""
        self.readout: nn.Module = nn.Linear(WIDTH, CLASSES)
        self.beside = nn.ModuleList()
        """Steps on the output."""

    def before(self, place: int) -> nn.ModuleList:
        """Return the steps on what a layer is given, to add to."""
        return self._added(f"before{place}")

    def within(self, place: int) -> nn.ModuleList:
        """Return the steps between a layer and its neurons, to add to."""
        return self._added(f"within{place}")

    def _added(self, key: str) -> nn.ModuleList:
        if key not in self.steps:
            self.steps[key] = nn.ModuleList()
        return self.steps[key]  # type: ignore[return-value]

    def forward(self, raw: Tensor) -> Tensor:
        seen = Seen(self, raw, raw.double() / 2 if self.integers else raw)
        value = seen.raw if len(self.front) else seen.x
        value = _through(self.front, value, seen)
        for place, index in enumerate(self.order):
            value = self._at("before", place, value, seen)
            seen.arrived.append(value)
            current = self._at("within", place, self.layers[index](value), seen)
            seen.currents.append(current)
            shape = self.maps[place]
            neurons = self.neurons[place]
            value = neurons(current) if shape is None else neurons(current.view(-1, *shape)).flatten(1)
            seen.spikes.append(value)
        return _through(self.beside, self.readout(_through(self.last, value, seen)), seen)

    def _at(self, side: str, place: int, value: Tensor, seen: Seen) -> Tensor:
        key = f"{side}{place}"
        return _through(self.steps[key], value, seen) if key in self.steps else value

    def layer(self, place: int) -> nn.Module:
        return self.layers[self.order[place]]


def _through(steps: nn.Module, value: Tensor, seen: Seen) -> Tensor:
    for step in steps:  # type: ignore[attr-defined]
        value = step(value, seen)
    return value


class Draw:
    """What one construct of one network draws: a function of the seed and its name.

    Args:
        seed: Of the network.
        name: Of the construct.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._random = random.Random(f"{seed} {name}")
        self.generator = torch.Generator().manual_seed(self._random.randrange(2**60))

    def whole(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return self._random.randint(low, high)

    def pick(self, *choices: T) -> T:
        return self._random.choice(choices)

    def share(self) -> float:
        return self._random.random()
