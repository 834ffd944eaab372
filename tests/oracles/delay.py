"""Delays channel by channel, neurons with an alpha-shaped response, and what a delay learns from, as explicit loops.

A channel with delay `delta = longest / (1 + exp(-parameter))` passes on what arrived `d = round(delta)` steps ago, and
the gradient of `delta` is the sum over steps of the error there times a slope (Xiao et al., 2024, arXiv 2405.16851).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.oracles.machine import Machine, Spike

LONGEST = 4


def kappa(age: int, tau: float) -> float:
    """Derivative of the response `(e / tau) (age + 1) exp(-age / tau)` by its age."""
    return math.e / tau * (1 - (age + 1) / tau) * math.exp(-age / tau)


def epsilon(age: float, tau: float) -> float:
    """The response itself, from one step before it begins."""
    return math.e / tau * (age + 1) * math.exp(-age / tau) if age >= -1 else 0.0


def slope_at(past: Sequence[Tensor] | Tensor, k: int, kind: str, tau: float) -> Tensor:
    """What a delay sees of the spikes `past` that were sent up to step `k`; nothing if that is before the start."""
    nothing = torch.zeros_like(past[0])
    if k < 0:
        return nothing
    now, before = past[k], past[k - 1] if k else nothing
    if kind == "finite_difference":
        return before - now
    if kind == "exact":
        return math.exp(-1 / tau) * before - (1 - 1 / tau) * now
    return -sum((kappa(k - i, tau) * past[i] for i in range(k + 1)), nothing)


def arrive(net: Machine, name: str, s: Tensor, kind: str = "finite_difference", tau: float = 4.0) -> Tensor:
    """What channels of `s` `[batch, channel, ...]` get now; errors stay in their step where the net cuts steps."""
    past = net.past.setdefault(name, [])
    past.append(net.kept(s))
    delta, channels = LONGEST / (1 + torch.exp(-net.params[f"{name}.delay_logit"])), []
    for c, value in enumerate(delta):
        d = round(value.item())
        mine, k = [step[:, c] for step in past], len(past) - 1 - d
        now = mine[k] if k >= 0 else torch.zeros_like(mine[0])
        now = s[:, c] if d == 0 else now.detach() if net.cut else now
        channels.append(now + (value - value.detach()) * slope_at(mine, k, kind, tau).detach())
    return torch.stack(channels, 1)


def alpha(
    net: Machine,
    name: str,
    current: Tensor,
    tau: float = 4.0,
    threshold: float = 2.0,
    hard: bool = True,
    spike: Callable[[Tensor], Tensor] = Spike.apply,
) -> Tensor:
    """Spikes of current-based neurons, whose reset is differentiated and leaves the synaptic current alone."""
    keep, nothing = math.exp(-1 / tau), torch.zeros_like(current)
    synaptic = keep * net.membranes.get(f"{name} current", nothing) + math.e / tau * current
    charged = keep * net.membranes.get(name, nothing) + synaptic
    spikes = spike(charged - threshold)
    rest = charged * (1 - spikes) if hard else charged - threshold * spikes
    net.membranes[name], net.membranes[f"{name} current"] = (v.detach() if net.cut else v for v in (rest, synaptic))
    net.now[name] = spikes
    return spikes
