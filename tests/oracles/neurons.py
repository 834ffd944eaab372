"""Neurons with synaptic currents, moving thresholds and several spikes per step, as explicit loops over time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF, Neuron
from tests.oracles.machine import surrogate

Number = Any
"""A number, or a tensor of one per channel."""


@dataclass(frozen=True)
class Equations:
    """Constants by the letters of the docstrings; `alpha` is `None` without a synaptic current."""

    leak: Number = 1.0
    k: Number = 1.0
    v_th: Number = 1.0
    r: Number = 1.0
    alpha: Number = None
    g: Number = 1.0
    rho: Number = 0.0
    beta: Number = 0.0
    low: float = -math.inf
    most: float = 1
    hard: bool = False
    attached: bool = False
    strict: bool = False
    moving: bool = False
    fires: bool = True


def by_hand(x: list[float], e: Equations) -> tuple[list[float], list[float], list[float]]:
    """Return spikes, and potentials before and after the reset, of one neuron, in numbers of Python."""
    c = v = w = 0.0
    spikes, before, after = [], [], []
    for i in x:
        drive = e.k * i
        if e.alpha is not None:
            c = e.alpha * c + drive
            drive = e.g * c
        u, h = e.leak * v + drive, e.v_th + w
        if e.most > 1:
            s = float(min(e.most, max(0, math.floor(u / h))))
        else:
            s = float((u > h if e.strict else u >= h) and e.fires)
        v = (0.0 if s else u) if e.hard else u - (e.r + (w if e.moving else 0)) * s
        v = max(v, e.low)
        w = e.rho * w + e.beta * s
        spikes.append(s)
        before.append(u)
        after.append(v)
    return spikes, before, after


class _Count(torch.autograd.Function):
    """Spikes at a potential u and a threshold h, with the slope of the distance between them."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, h: Tensor, most: float, strict: bool) -> Tensor:
        ctx.save_for_backward(u - h)
        if most > 1:
            return (u / h).floor().clamp(0, most)
        return (u > h if strict else u >= h).to(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slope = grads[0] * surrogate(ctx.saved_tensors[0])
        return slope, -slope, None, None


def looped(x: Tensor, e: Equations, cut: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same of a chunk `[time, batch, channel, *]`, differentiable; `cut` ends gradients at every step."""

    def at(value: Number) -> Number:
        per_channel = isinstance(value, Tensor) and value.numel() > 1
        return value.view(-1, *[1] * (x.dim() - 3)) if per_channel else value

    c = v = w = torch.zeros_like(x[0])
    rows = []
    for i in x:
        drive = at(e.k) * i
        if e.alpha is not None:
            c = at(e.alpha) * c + drive
            drive = at(e.g) * c
        u, h = at(e.leak) * v + drive, at(e.v_th) + w
        s = _Count.apply(u, h, e.most, e.strict) if e.fires else torch.zeros_like(u)
        f = s if e.attached else s.detach()
        v = u * (1 - f.clamp(max=1)) if e.hard else u - (at(e.r) + (w if e.moving else 0)) * f
        v = torch.where(v < e.low, torch.full_like(v, e.low), v)
        w = at(e.rho) * w + at(e.beta) * s
        rows.append((s, u, v))
        if cut:
            c, v, w = c.detach(), v.detach(), w.detach()
    spikes, before, after = (torch.stack(part) for part in zip(*rows))
    return spikes, before, after


Leaves = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A neuron for three channels, and its equations as a function of its parameters."""

    make: Callable[[], Neuron]
    equations: Callable[[Leaves], Equations]
    sends: Callable[[Tensor], Tensor] = field(default=lambda spikes: spikes)


def _leak(p: Leaves, name: str = "leak_logit") -> Tensor:
    return torch.sigmoid(p[name])


def _t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _fixed(make: Callable[[], Neuron], **constants: Any) -> Case:
    return Case(make, lambda p: Equations(**constants))


CURRENT = {"leak": 0.75, "alpha": 2 / 3}
ADAPTIVE = {"leak": 0.75, "rho": 0.875, "beta": 0.5}
CASES: dict[str, Case] = {
    "current": _fixed(lambda: CUBALIF(4.0, 3.0), **CURRENT),
    "current, hard": _fixed(lambda: CUBALIF(4.0, 3.0, reset="zero"), **CURRENT, hard=True),
    "current, attached": _fixed(lambda: CUBALIF(4.0, 3.0, detach_reset=False), **CURRENT, attached=True),
    "current, hard, attached": _fixed(
        lambda: CUBALIF(4.0, 3.0, reset="zero", detach_reset=False), **CURRENT, hard=True, attached=True
    ),
    "current, scaled": Case(
        lambda: CUBALIF(4.0, 3.0, gain=0.5, current_gain=[0.5, 1.0, 2.0], rest=-0.25, amplitude=1.5),
        lambda p: Equations(**CURRENT, k=0.5, g=_t(0.5, 1, 2), r=1.25),
        lambda spikes: 1.5 * spikes,
    ),
    "current, learned": Case(
        lambda: CUBALIF([2.0, 4.0, 5.0], 3.0, learn_tau=True, learn_tau_syn=True, learn_gain=True, gain=0.75),
        lambda p: Equations(leak=_leak(p), alpha=_leak(p, "current_leak_logit"), k=p["gain"]),
    ),
    "current, late, bounded": _fixed(
        lambda: CUBALIF(4.0, 3.0, reset="late", lower_bound=-0.25), **CURRENT, r=1 / 0.75, low=-0.25
    ),
    "current, several": _fixed(lambda: CUBALIF(4.0, 3.0, max_spikes=2), **CURRENT, most=2),
    "adaptive": _fixed(lambda: ALIF(4.0, 8.0, 0.5), **ADAPTIVE),
    "adaptive, moving": _fixed(lambda: ALIF(4.0, 8.0, 0.5, moving_reset=True), **ADAPTIVE, moving=True),
    "adaptive, moving, attached": _fixed(
        lambda: ALIF(4.0, 8.0, 0.5, moving_reset=True, detach_reset=False), **ADAPTIVE, moving=True, attached=True
    ),
    "adaptive, hard": _fixed(lambda: ALIF(4.0, 8.0, 0.5, reset="zero"), **ADAPTIVE, hard=True),
    "adaptive, current": _fixed(
        lambda: ALIF(4.0, 8.0, 0.5, tau_syn=3.0, current_gain=0.5), **ADAPTIVE, alpha=2 / 3, g=0.5
    ),
    "adaptive, learned": Case(
        lambda: ALIF(4.0, 8.0, [0.25, 0.5, 0.75], learn_tau=True, learn_beta=True, learn_threshold=True),
        lambda p: Equations(leak=_leak(p), rho=0.875, beta=p["beta"], v_th=p["threshold"], r=p["threshold"]),
    ),
    "adaptive, several": _fixed(lambda: ALIF(4.0, 8.0, 0.5, max_spikes=None), **ADAPTIVE, most=math.inf),
    "adaptive, strict, late": _fixed(
        lambda: ALIF(4.0, 8.0, 0.5, strict=True, reset="late"), **ADAPTIVE, strict=True, r=1 / 0.75
    ),
    "several": _fixed(lambda: LIF(4.0, max_spikes=None, threshold=0.5), leak=0.75, v_th=0.5, r=0.5, most=math.inf),
    "several, hard": _fixed(lambda: LIF(4.0, max_spikes=3, reset="zero"), leak=0.75, most=3, hard=True),
    "several, attached": _fixed(lambda: IF(max_spikes=None, detach_reset=False), most=math.inf, attached=True),
    "several, learned": Case(
        lambda: IF(threshold=[0.5, 0.75, 1.0], max_spikes=None, learn_threshold=True, learn_gain=True),
        lambda p: Equations(v_th=p["threshold"], r=p["threshold"], k=p["gain"], most=math.inf),
    ),
    "bounded": _fixed(lambda: LIF(4.0, lower_bound=-0.25), leak=0.75, low=-0.25),
    "bounded at rest": _fixed(lambda: IF(lower_bound=0.0, detach_reset=False), low=0.0, attached=True),
    "strict": _fixed(lambda: LIF(4.0, strict=True), leak=0.75, strict=True),
    "strict, hard": _fixed(lambda: IF(strict=True, reset="zero"), strict=True, hard=True),
    "late": _fixed(lambda: LIF(4.0, reset="late", threshold=0.75), leak=0.75, v_th=0.75, r=1.0),
    "per channel": _fixed(
        lambda: LIF([2.0, 4.0, 1.0], [0.5, 1.0, 1.5], rest=[0.0, 0.25, -0.5], gain=[0.5, 1.0, 2.0]),
        **{"leak": _t(0.5, 0.75, 0), "v_th": _t(0.5, 1, 1.5), "r": _t(0.5, 0.75, 2), "k": _t(0.5, 1, 2)},
    ),
    "learned": Case(
        lambda: LIF(4.0, learn_threshold=True, learn_gain=True, gain=0.75, rest=-0.25),
        lambda p: Equations(leak=0.75, v_th=p["threshold"], r=p["threshold"] + 0.25, k=p["gain"]),
    ),
    "learned, late, attached": Case(
        lambda: LIF(4.0, learn_tau=True, learn_threshold=True, reset="late", detach_reset=False),
        lambda p: Equations(leak=_leak(p), v_th=p["threshold"], r=p["threshold"] / _leak(p), attached=True),
    ),
    "tied": _fixed(lambda: LIF(4.0, gain="1/tau", threshold=0.25), leak=0.75, k=0.25, v_th=0.25, r=0.25),
    "tied, learned": Case(
        lambda: LIF([2.0, 4.0, 5.0], gain="1/tau", learn_tau=True, threshold=0.25),
        lambda p: Equations(leak=_leak(p), k=1 - _leak(p), v_th=0.25, r=0.25),
    ),
}
INTEGRATORS: dict[str, Case] = {
    "integrator": _fixed(lambda: LI(4.0), leak=0.75, fires=False),
    "integrator, current": _fixed(
        lambda: LI(4.0, tau_syn=3.0, current_gain=0.5, gain=2.0), **CURRENT, g=0.5, k=2.0, fires=False
    ),
    "integrator, lossless": _fixed(lambda: LI(None), fires=False),
    "integrator, learned": Case(
        lambda: LI([2.0, 4.0, 5.0], gain="1/tau", learn_tau=True),
        lambda p: Equations(leak=_leak(p), k=1 - _leak(p), fires=False),
    ),
    "integrator, per channel": _fixed(
        lambda: LI([1.0, 2.0, 4.0], gain=[0.5, 1.0, 2.0]), leak=_t(0, 0.5, 0.75), k=_t(0.5, 1, 2), fires=False
    ),
}
