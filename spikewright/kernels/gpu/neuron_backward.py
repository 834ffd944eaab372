# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
"""The backward scan of neurons in general.

The forward scan is run again first.  It keeps the potential of every step, and, where they are needed, the states
before it, in memory that lives as long as the call: one to four arrays of the size of the input.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from spikewright.kernels import neuron_operators as ops
from spikewright.kernels.equations import CONSTANTS
from spikewright.kernels.gpu.launch import bits, start
from spikewright.kernels.gpu.lif import AHEAD, real
from spikewright.kernels.gpu.neuron import Arrays, constants_of, left_by, neuron, spikes_at, switches_of
from spikewright.kernels.gpu.operand import constant, each, number
from spikewright.kernels.gpu.slopes import slope_at
from spikewright.kernels.layout import precision
from spikewright.temporal import is_static


def neuron_backward(
    x: Tensor,
    current: Tensor | None,
    membrane: Tensor | None,
    adaptation: Tensor | None,
    arrays: Arrays,
    numbers: list[float],
    kind: int,
    flags: int,
    most: float,
    emits: int,
    grad_spikes: Tensor | None,
    grad_emitted: Tensor | None,
    grad_after_current: Tensor | None,
    grad_after_membrane: Tensor | None,
    grad_after_adaptation: Tensor | None,
    slopes: Tensor | None,
    surrogate: int,
    parameter: float,
    factor: float,
    grad_x: Tensor,
    grad_current: Tensor | None,
    grad_membrane: Tensor | None,
    grad_adaptation: Tensor | None,
    wanted: bool,
    sums: Arrays,
) -> None:
    """Fill the gradients of input and states, and in `sums` those of constants, given what the forward scan was given.

    `surrogate` is 0 where the slopes are given, and -1 where they are 0.
    """
    to = dict(zip(CONSTANTS, sums, strict=True))
    potential = x.new_empty(x.shape, dtype=precision(x))

    def room(is_needed: bool) -> Tensor | None:
        return potential.new_empty(x.shape) if is_needed else None

    for_current = to["current_leak"] is not None or to["current_gain"] is not None
    currents = room(bool(kind & ops.CURRENT) and for_current)
    membranes = room(to["leak"] is not None)
    adaptations = room(bool(kind & ops.ADAPTIVE))
    scan = (x, current, membrane, adaptation, arrays, numbers, kind, flags, most)
    before_reset = ops.EMITS.index("before reset")
    trail = (currents, membranes, adaptations)
    neuron(*scan, before_reset, None, potential, None, None, None, trail=trail)

    arriving = (grad_spikes, grad_emitted, grad_after_current, grad_after_membrane, grad_after_adaptation, slopes)
    values = (*constants_of(arrays, numbers), bits(most), bits(parameter), bits(factor))
    leaving = (grad_x, grad_current, grad_membrane, grad_adaptation, *sums)
    switches: dict[str, Any] = {**switches_of(kind, flags), "REPEATED": is_static(x), "REAL": real(x)}
    switches |= {"ATTACHED": bool(flags & ops.ATTACHED), "THROUGH_TIME": bool(flags & ops.THROUGH_TIME)}
    switches |= {"EMITS": int(emits), "SURROGATE": int(surrogate)}
    start(_neuron_backward, x, x, potential, *trail, *values, *arriving, *leaving, **switches)


# `to_c`, `to_v` and `to_w` are the gradients of the states on their way back; `at_y` is that of an intermediate y.
@triton.jit(do_not_specialize=[*CONSTANTS, "most", "parameter", "factor", "steps"])
def _neuron_backward(
    x,
    potential,
    currents,
    membranes,
    adaptations,
    gain,
    current_leak,
    current_gain,
    leak,
    threshold,
    reset_amount,
    lower_bound,
    adaptation_leak,
    adaptation_jump,
    most,
    parameter,
    factor,
    grad_spikes,
    grad_emitted,
    grad_after_current,
    grad_after_membrane,
    grad_after_adaptation,
    slopes,
    grad_x,
    grad_current,
    grad_membrane,
    grad_adaptation,
    grad_gain,
    grad_current_leak,
    grad_current_gain,
    grad_leak,
    grad_threshold,
    grad_reset_amount,
    grad_lower_bound,
    grad_adaptation_leak,
    grad_adaptation_jump,
    steps,
    width,
    CURRENT: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    COUNTS: tl.constexpr,
    SUBTRACT: tl.constexpr,
    STRICT: tl.constexpr,
    MOVING: tl.constexpr,
    ATTACHED: tl.constexpr,
    THROUGH_TIME: tl.constexpr,
    EMITS: tl.constexpr,
    SURROGATE: tl.constexpr,
    REPEATED: tl.constexpr,
    REAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    neurons = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = neurons < width
    gain = constant(gain, neurons, inside, REAL, BLOCK)
    current_leak = constant(current_leak, neurons, inside, REAL, BLOCK)
    current_gain = constant(current_gain, neurons, inside, REAL, BLOCK)
    leak = constant(leak, neurons, inside, REAL, BLOCK)
    threshold = constant(threshold, neurons, inside, REAL, BLOCK)
    reset_amount = constant(reset_amount, neurons, inside, REAL, BLOCK)
    lower_bound = constant(lower_bound, neurons, inside, REAL, BLOCK)
    adaptation_leak = constant(adaptation_leak, neurons, inside, REAL, BLOCK)
    adaptation_jump = constant(adaptation_jump, neurons, inside, REAL, BLOCK)
    most = number(most, REAL)
    parameter = number(parameter, REAL)
    factor = number(factor, REAL)
    to_c = each(grad_after_current, 0, neurons, inside, REAL, BLOCK)
    to_v = each(grad_after_membrane, 0, neurons, inside, REAL, BLOCK)
    to_w = each(grad_after_adaptation, 0, neurons, inside, REAL, BLOCK)
    nothing = tl.full((BLOCK,), 0, REAL)
    of_gain = nothing
    of_current_leak = nothing
    of_current_gain = nothing
    of_leak = nothing
    of_threshold = nothing
    of_reset_amount = nothing
    of_lower_bound = nothing
    of_adaptation_leak = nothing
    of_adaptation_jump = nothing
    for back in tl.range(steps, num_stages=AHEAD):
        row = (steps - 1 - back).to(tl.int64) * width + neurons
        u = tl.load(potential + row, inside, other=0)
        h = threshold
        r = reset_amount
        w = nothing
        if ADAPTIVE:
            w = tl.load(adaptations + row, inside, other=0)
            h = threshold + w
            if MOVING:
                r = reset_amount + w
        if not THROUGH_TIME:
            to_c = tl.where(back == 0, to_c, 0.0)
            to_v = tl.where(back == 0, to_v, 0.0)
            to_w = tl.where(back == 0, to_w, 0.0)
        at_v = to_v
        at_u = nothing
        if grad_emitted is not None:
            e = tl.load(grad_emitted + row, inside, other=0).to(REAL)
            if EMITS == 2:
                at_v += e
            else:
                at_u += e
        s = spikes_at(u, h, most, COUNTS, STRICT, REAL)
        at_left = tl.where(left_by(u, s, r, SUBTRACT) < lower_bound, 0.0, at_v)
        at_s = nothing
        if grad_spikes is not None:
            at_s += tl.load(grad_spikes + row, inside, other=0).to(REAL)
        at_r = nothing
        if SUBTRACT:
            at_u += at_left
            at_r -= s * at_left
            if ATTACHED:
                at_s -= r * at_left
        else:
            at_u += tl.where(s == 0, at_left, 0.0)
            if ATTACHED:
                at_s -= u * at_left
        if ADAPTIVE:
            at_s += adaptation_jump * to_w
        passed = nothing
        if SURROGATE == 0:
            passed += at_s * tl.load(slopes + row, inside, other=0).to(REAL)
        elif SURROGATE > 0:
            passed += at_s * (factor * slope_at(u - h, parameter, SURROGATE))
        at_u += passed
        at_drive = at_u
        if CURRENT:
            at_drive = to_c + current_gain * at_u
            to_c = current_leak * at_drive
        tl.store(grad_x + row, gain * at_drive, inside)
        to_v = leak * at_u
        step = nothing
        if (grad_gain is not None) or (grad_current_gain is not None):
            if REPEATED:
                step = tl.load(x + neurons, inside, other=0).to(REAL)
            else:
                step = tl.load(x + row, inside, other=0).to(REAL)
            of_gain += step * at_drive
        if currents is not None:
            c = tl.load(currents + row, inside, other=0)
            of_current_leak += c * at_drive
            if grad_current_gain is not None:
                of_current_gain += (current_leak * c + gain * step) * at_u
        if membranes is not None:
            of_leak += tl.load(membranes + row, inside, other=0) * at_u
        of_threshold -= passed
        of_reset_amount += at_r
        of_lower_bound += at_v - at_left
        if ADAPTIVE:
            of_adaptation_leak += w * to_w
            of_adaptation_jump += s * to_w
            to_w = adaptation_leak * to_w - passed
            if MOVING:
                to_w += at_r
    if grad_current is not None:
        tl.store(grad_current + neurons, to_c, inside)
    if grad_membrane is not None:
        tl.store(grad_membrane + neurons, to_v, inside)
    if grad_adaptation is not None:
        tl.store(grad_adaptation + neurons, to_w, inside)
    if grad_gain is not None:
        tl.store(grad_gain + neurons, of_gain, inside)
    if grad_current_leak is not None:
        tl.store(grad_current_leak + neurons, of_current_leak, inside)
    if grad_current_gain is not None:
        tl.store(grad_current_gain + neurons, of_current_gain, inside)
    if grad_leak is not None:
        tl.store(grad_leak + neurons, of_leak, inside)
    if grad_threshold is not None:
        tl.store(grad_threshold + neurons, of_threshold, inside)
    if grad_reset_amount is not None:
        tl.store(grad_reset_amount + neurons, of_reset_amount, inside)
    if grad_lower_bound is not None:
        tl.store(grad_lower_bound + neurons, of_lower_bound, inside)
    if grad_adaptation_leak is not None:
        tl.store(grad_adaptation_leak + neurons, of_adaptation_leak, inside)
    if grad_adaptation_jump is not None:
        tl.store(grad_adaptation_jump + neurons, of_adaptation_jump, inside)
