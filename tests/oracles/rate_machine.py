"""The first phase of the methods on rates: a simulation without gradients that keeps the rates of every neuron layer.

With the weights `leak^(T-t)` and their sum `Z`, the input rate `r` and the output rate `o` of a layer obey
`o = amplitude * (gain * r - v[T] / Z) / reset_amount` exactly, whatever came in. Gradients forget the membrane `v[T]`:
they are those of `amplitude * clip(gain * r / reset_amount, 0, 1)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tests.oracles.machine import Machine, Params

Mask = Literal["input", "output"]
"""Where a layer passes gradient on: its input rate is in the closed range, or it fired at some steps but not at all."""


@dataclass(frozen=True)
class Cell:
    """Charge `u = leak * v + gain * I`, spike where `u >= fraction * reset_amount`, then `v = u - reset_amount * s`.

    What is sent on is `amplitude * s`. By default the neuron of `Machine`.
    """

    reset_amount: float = 1.0
    fraction: float = 1.0
    gain: float = 1.0
    amplitude: float = 1.0

    @property
    def slope(self) -> float:
        return self.amplitude * self.gain / self.reset_amount

    def clip(self, current: Tensor) -> Tensor:
        """Output rate of a constant current in the limit of many steps."""
        return self.amplitude * (self.gain * current / self.reset_amount).clamp(0, 1)


Cells = Mapping[str, Cell]
"""The neurons of some layers by their names; all others are the default."""


def powers(steps: int, leak: float) -> Tensor:
    """`leak^(T-t)` for `t = 1..T`."""
    return leak ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)


def mean(series: Tensor, leak: float) -> Tensor:
    """Mean of `[time, ...]` with the weights `leak^(T-t)`."""
    share = powers(len(series), leak)
    return torch.einsum("t,t...->...", share, series) / share.sum()


@dataclass(frozen=True)
class Layer:
    """What a neuron layer did: its rates and the last membrane `[batch, *feature]`, its spikes `[time, ...]`."""

    cell: Cell
    leak: float
    input: Tensor
    output: Tensor
    membrane: Tensor
    spikes: Tensor

    def slope(self, mask: Mask) -> Tensor:
        """Derivative of the output rate by the input rate."""
        charge = self.cell.gain * self.input / self.cell.reset_amount
        seen = self.spikes[powers(len(self.spikes), self.leak) > 0]
        passes = {"input": (charge >= 0) & (charge <= 1), "output": seen.amax(0) > seen.amin(0)}[mask]
        return passes.to(self.input) * self.cell.slope


class RateMachine(Machine):
    """Runs a program over time without gradients."""

    def __init__(self, params: Params, cells: Cells | None = None) -> None:
        super().__init__(params, cut=True)
        self.cells = cells or {}
        self.currents: dict[str, list[Tensor]] = {}
        self.spikes: dict[str, list[Tensor]] = {}
        self.readers: set[str | None] = set()
        self.frame: Tensor | None = None

    def syn(self, name: str, x: Tensor, pre: str | None = None, post: str | None = None, **conv: int) -> Tensor:
        if x is self.frame:
            self.readers.add(post)
        return super().syn(name, x, pre, post, **conv)

    def lif(self, name: str, current: Tensor, tau: float, hard: bool = False, attached: bool = False) -> Tensor:
        if hard:
            raise ValueError(f"Neuron layer {name!r} resets to zero, so its rates are not linear. Use a soft reset.")
        cell, self.leaks[name] = self.cells.get(name, Cell()), 1 - 1 / tau
        charged = cell.gain * current + self.leaks[name] * self.membranes.get(name, torch.zeros_like(current))
        spikes = (charged >= cell.fraction * cell.reset_amount).to(charged.dtype)
        self.membranes[name] = charged - cell.reset_amount * spikes
        self.currents.setdefault(name, []).append(current)
        self.spikes.setdefault(name, []).append(spikes)
        self.now[name] = cell.amplitude * spikes
        return self.now[name]

    @torch.no_grad()
    def simulate(self, program: Callable, x: Tensor, entry: str | None = None) -> tuple[Tensor, dict[str, Layer]]:
        """Mean of the input `[time, batch, *feature]` as the layer `entry` weights it, and all the layers' rates.

        Without `entry` it is the layer behind the synapse that reads the frames themselves.
        """
        for self.frame in x:
            self.before, self.now = self.now, {}
            program(self.frame, self)
        leaks = {self.leaks.get(name or "", 1.0) for name in ({entry} if entry else self.readers)}
        if len(leaks) != 1:
            raise ValueError(f"The input has {len(leaks)} leaks instead of one. Name the layer that reads it: `entry`.")
        return mean(x, leaks.pop()), {name: self._layer(name) for name in self.spikes}

    def _layer(self, name: str) -> Layer:
        cell, leak, spikes = self.cells.get(name, Cell()), self.leaks[name], torch.stack(self.spikes[name])
        rates = mean(torch.stack(self.currents[name]), leak), cell.amplitude * mean(spikes, leak)
        return Layer(cell, leak, *rates, self.membranes[name], spikes)
