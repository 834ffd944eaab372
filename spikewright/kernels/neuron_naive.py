"""The scan of `spikewright.kernels.equations` step by step, differentiated by autograd: what a fused scan means."""

import math
from typing import Any

import torch
from torch import Tensor

from spikewright.kernels.equations import Emits, Equations
from spikewright.surrogate import Surrogate, slope_at

Carried = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Synaptic current, potential and shift of the threshold, `[batch, *feature]`; `None` is 0."""
Scanned = tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor | None]
"""Spikes; what else is emitted, `[time, batch, *feature]`; current, potential and shift after the last step."""


class _Spikes(torch.autograd.Function):
    """The number of spikes at a potential u and a threshold h; the backward pass takes the slope at u - h."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, h: Tensor, equations: Equations) -> Tensor:
        ctx.save_for_backward(u - h)
        ctx.surrogate = equations.surrogate
        return spikes_at(u, h, equations)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (x,) = ctx.saved_tensors
        passed = grads[0] * slope_at(ctx.surrogate, x)
        return passed, -passed, None


def spikes_at(u: Tensor, h: Tensor, equations: Equations) -> Tensor:
    """Return the number of spikes at a potential `u` and a threshold `h`, in the dtype of `u`."""
    if equations.counts:
        return torch.where(u > 0, (u / h).floor(), torch.zeros_like(u)).clamp(max=equations.max_spikes)
    return ((u > h) if equations.strict else (u >= h)).to(u.dtype)


def neuron_naive(
    x: Tensor, carried: Carried, equations: Equations, through_time: bool, emits: Emits = "nothing"
) -> Scanned:
    """Run neurons over a chunk step by step; arguments and result are those of `spikewright.kernels.neuron`."""
    eq, zero = equations, torch.zeros_like(x[0])
    c, v, w = (zero if value is None else value for value in carried)
    spikes: list[Tensor] = []
    emitted: list[Tensor] = []
    for step in x:
        drive = eq.gain * step
        if eq.has_current:
            c = eq.current_leak * c + drive
            drive = eq.current_gain * c
        u = eq.leak * v + drive
        shift = w if eq.adaptive else zero
        s = _fire(u, shift, eq)
        v = _reset(u, s.detach() if eq.detach_reset else s, shift, eq)
        if eq.adaptive:
            w = eq.adaptation_leak * w + eq.adaptation_jump * s
        spikes.append(s)
        emitted.append(v if emits == "after reset" else u if emits == "before reset" else u - eq.threshold - shift)
        if not through_time:
            c, v, w = c.detach(), v.detach(), w.detach()
    after = c if eq.has_current else None, v, w if eq.adaptive else None
    return torch.stack(spikes), None if emits == "nothing" else torch.stack(emitted), *after


def _fire(u: Tensor, shift: Tensor, eq: Equations) -> Tensor:
    threshold = eq.threshold + shift if eq.adaptive else torch.as_tensor(eq.threshold, dtype=u.dtype, device=u.device)
    if eq.silent:
        return torch.zeros_like(u)
    if type(eq.surrogate).__call__ is Surrogate.__call__:
        return _Spikes.apply(u, threshold.expand_as(u), eq)  # type: ignore[return-value]
    return eq.surrogate(u - threshold)  # a step function of the user's own


def _reset(u: Tensor, s: Tensor, shift: Tensor, eq: Equations) -> Tensor:
    if eq.reset == "zero":
        v = u * (1 - s.clamp(max=1))
    else:
        v = u - (eq.reset_amount + shift if eq.moving_reset else eq.reset_amount) * s
    if isinstance(eq.lower_bound, float) and eq.lower_bound == -math.inf:
        return v
    low = torch.as_tensor(eq.lower_bound, dtype=v.dtype, device=v.device)
    return torch.where(v < low, low, v)
