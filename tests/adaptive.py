"""Neurons with several parts of state, for tests of eligibilities."""

from typing import Any

import torch
from torch import Tensor

from spikewright.neurons import Dynamics, Neuron
from spikewright.surrogate import Sigmoid
from spikewright.temporal import SiteState


class Adaptive(Neuron):
    """Leaky neurons whose threshold rises by a jump at a spike, and falls back by a decay of its own.

    `u[t] = b v[t-1] + c[t]`, `c[t] = a c[t-1] + I[t]`, `s[t] = [u[t] >= 1 + w[t-1]]`, `w[t] = rho w[t-1] + jump s[t]`,
    and `v[t] = u[t] - s[t]`, or `v[t] = u[t] (1 - s[t])` if it is `hard`, without gradient unless it is `attached`.
    """

    def __init__(
        self,
        decay: float = 0.7,
        current_decay: float = 0.0,
        rho: float = 0.9,
        jump: float = 0.4,
        hard: bool = False,
        attached: bool = False,
    ) -> None:
        reset: Any = "zero" if hard else "subtract"
        super().__init__(threshold=1.0, reset=reset, detach_reset=not attached, surrogate=Sigmoid(4.0), inplace=False)
        self.decay, self.current_decay, self.rho, self.jump = decay, current_decay, rho, jump

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(
            decay=self.decay,
            current_decay=self.current_decay if self.current_decay else None,
            linear=True,
            binary=True,
            soft_reset=self.reset == "subtract",
            detached_reset=self.detach_reset,
            adaptive=self.jump != 0,
        )

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        zero, sent = torch.zeros_like(x[0]), []
        v, c, w = (state.get(name, zero) for name in ("membrane", "current", "adaptation"))
        for step in x:
            c = self.current_decay * c + step
            u = self.decay * v + c
            s = self.surrogate(u - 1 - w)
            fired = s.detach() if self.detach_reset else s
            v = u - fired if self.reset == "subtract" else u * (1 - fired)
            w = self.rho * w + self.jump * s
            if not through_time:
                v, c, w = v.detach(), c.detach(), w.detach()
            sent.append(s)
        state = {"membrane": v} | ({"current": c} if self.current_decay else {})
        return torch.stack(sent), state | ({"adaptation": w} if self.jump else {})


class Potential(Neuron):
    """Leaky readouts, whose output is their potential: `u[t] = kappa u[t-1] + c[t]`, `c[t] = a c[t-1] + I[t]`."""

    def __init__(self, kappa: float = 0.8, a: float = 0.0, told: float | None = None) -> None:
        super().__init__(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(4.0), inplace=False)
        self.kappa, self.a, self.told = kappa, a, kappa if told is None else told

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=self.told, current_decay=self.a or None, linear=True)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        zero, sent = torch.zeros_like(x[0]), []
        u, c = (state.get(name, zero) for name in ("membrane", "current"))
        for step in x:
            c = self.a * c + step
            u = self.kappa * u + c
            sent.append(u)
            if not through_time:
                u, c = u.detach(), c.detach()
        return torch.stack(sent), {"membrane": u} | ({"current": c} if self.a else {})
