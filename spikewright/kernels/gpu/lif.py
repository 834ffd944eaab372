# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
"""The neuron scan and its backward scan.

A program takes a block of neurons through all steps; the membrane, or its gradient, stays in registers.  Arrays are
`[steps, width]`; one that may be absent may be `None`.  Arithmetic is in `REAL`, float64 for float64 and else float32.
Rows are reached by advancing the base, so that offsets within one are all that has to be computed.
"""

import triton
import triton.language as tl
from torch import Tensor, float64

from spikewright.kernels.gpu.launch import bits, start
from spikewright.kernels.gpu.operand import each, number
from spikewright.kernels.gpu.slopes import slope_at
from spikewright.temporal import is_static

AHEAD = tl.constexpr(4)
"""Steps whose loads are in flight: they do not wait for the membrane."""


def lif(
    current: Tensor,
    membrane: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    spikes: Tensor,
    potential: Tensor | None,
    after: Tensor,
) -> None:
    """Fill `spikes` and, where they are wanted, `potential` `[time, ...]`, and `after` `[...]`.

    The current may be one repeated step.
    """
    numbers = (bits(leak), bits(threshold), bits(reset_amount))
    arrays = (current, membrane, leaks, *numbers, spikes, potential, after)
    start(_lif, current, *arrays, SUBTRACT=bool(subtract), REPEATED=is_static(current), REAL=real(after))


def lif_backward(
    potential: Tensor,
    again: bool,
    membrane: Tensor | None,
    grad_spikes: Tensor | None,
    grad_after: Tensor | None,
    slopes: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    detach_reset: bool,
    through_time: bool,
    surrogate: int,
    parameter: float,
    factor: float,
    grad_current: Tensor,
    grad_membrane: Tensor,
) -> None:
    """Fill `grad_current` `[time, ...]` and `grad_membrane` `[...]`, given the potential of every step."""
    assert not again  # RUNS_AGAIN is False
    numbers = (bits(leak), bits(threshold), bits(reset_amount), bits(parameter), bits(factor))
    arrays = (potential, grad_spikes, grad_after, slopes, leaks, *numbers)
    neuron = {"SUBTRACT": bool(subtract), "DETACH_RESET": bool(detach_reset), "THROUGH_TIME": bool(through_time)}
    outputs = (grad_current, grad_membrane)
    start(_lif_backward, potential, *arrays, *outputs, **neuron, SURROGATE=int(surrogate), REAL=real(potential))


def real(state: Tensor) -> tl.dtype:
    """Return the precision of the arithmetic, that of a state."""
    return tl.float64 if state.dtype == float64 else tl.float32


@triton.jit(do_not_specialize=["leak", "threshold", "reset_amount", "steps"])
def _lif(
    current,
    membrane,
    leaks,
    leak,
    threshold,
    reset_amount,
    spikes,
    potential,
    after,
    steps,
    width,
    SUBTRACT: tl.constexpr,
    REPEATED: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    neurons = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neurons < width
    threshold = number(threshold, REAL)
    reset_amount = number(reset_amount, REAL)
    leak = each(leaks, number(leak, REAL), neurons, inside, REAL, BLOCK)
    v = each(membrane, 0, neurons, inside, REAL, BLOCK)
    for _ in tl.range(steps, num_stages=AHEAD):
        u = leak * v + tl.load(current + neurons, inside, other=0).to(REAL)
        s = tl.where(u >= threshold, 1.0, 0.0).to(REAL)
        tl.store(spikes + neurons, s, inside)
        if potential is not None:
            tl.store(potential + neurons, u, inside)
            potential += width
        if SUBTRACT:
            v = u - reset_amount * s
        else:
            v = u * (1 - s)
        if not REPEATED:
            current += width
        spikes += width
    tl.store(after + neurons, v, inside)


# `g` is dL/dv[t] on its way back.  dv/du = 1 - reset_amount ds/du (subtract) or (1 - s) - u ds/du (zero), where ds/du
# is the slope, or 0 if the reset is detached.
@triton.jit(do_not_specialize=["leak", "threshold", "reset_amount", "parameter", "factor", "steps"])
def _lif_backward(
    potential,
    grad_spikes,
    grad_after,
    slopes,
    leaks,
    leak,
    threshold,
    reset_amount,
    parameter,
    factor,
    grad_current,
    grad_membrane,
    steps,
    width,
    SUBTRACT: tl.constexpr,
    DETACH_RESET: tl.constexpr,
    THROUGH_TIME: tl.constexpr,
    SURROGATE: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    neurons = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neurons < width
    threshold = number(threshold, REAL)
    reset_amount = number(reset_amount, REAL)
    parameter = number(parameter, REAL)
    factor = number(factor, REAL)
    leak = each(leaks, number(leak, REAL), neurons, inside, REAL, BLOCK)
    g = each(grad_after, 0, neurons, inside, REAL, BLOCK)
    last = (steps - 1).to(tl.int64) * width
    potential += last
    grad_current += last
    if grad_spikes is not None:
        grad_spikes += last
    if slopes is not None:
        slopes += last
    for back in tl.range(steps, num_stages=AHEAD):
        u = tl.load(potential + neurons, inside, other=0).to(REAL)
        if slopes is not None:
            slope = tl.load(slopes + neurons, inside, other=0).to(REAL)
            slopes -= width
        else:
            slope = factor * slope_at(u - threshold, parameter, SURROGATE)
        if not THROUGH_TIME:
            g = tl.where(back == 0, g, 0.0)
        if SUBTRACT:
            if DETACH_RESET:
                du = g
            else:
                du = g * (1 - reset_amount * slope)
        else:
            dv = tl.where(u >= threshold, 0.0, 1.0).to(REAL)
            if not DETACH_RESET:
                dv -= u * slope
            du = g * dv
        if grad_spikes is not None:
            du += tl.load(grad_spikes + neurons, inside, other=0).to(REAL) * slope
            grad_spikes -= width
        tl.store(grad_current + neurons, du, inside)
        g = leak * du
        potential -= width
        grad_current -= width
    tl.store(grad_membrane + neurons, g, inside)
