# pyright: reportMissingImports=false, reportGeneralTypeIssues=false
"""The scan of neurons in general; `spikewright.kernels.equations` has the equations.

Arrays are `[steps, width]`, or `[width]`; one that is not wanted, or not there, is `None`.  A constant of the neurons
is an array, or the bits of a number.
"""

import triton
import triton.language as tl
from torch import Tensor

from spikewright.kernels import neuron_operators as ops
from spikewright.kernels.equations import CONSTANTS
from spikewright.kernels.gpu.launch import bits, start
from spikewright.kernels.gpu.lif import AHEAD, real
from spikewright.kernels.gpu.operand import constant, each, number
from spikewright.temporal import is_static

Arrays = list[Tensor | None]


def neuron(
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
    spikes: Tensor | None,
    emitted: Tensor | None,
    *after: Tensor | None,
    trail: tuple[Tensor | None, ...] = (None, None, None),
) -> None:
    """Fill spikes, what else is emitted, and the states after the last step.

    `trail` takes current, membrane and adaptation before every step.  The input may be one repeated step.
    """
    given = (x, current, membrane, adaptation, *constants_of(arrays, numbers), bits(most))
    switches = {**switches_of(kind, flags), "EMITS": int(emits), "REPEATED": is_static(x), "REAL": real(x)}
    start(_neuron, x, *given, spikes, emitted, *after, *trail, **switches)


def constants_of(arrays: Arrays, numbers: list[float]) -> list[Tensor | int]:
    """Return every constant as the kernels take it."""
    return [bits(value) if array is None else array for array, value in zip(arrays, numbers, strict=True)]


def switches_of(kind: int, flags: int) -> dict[str, bool]:
    """Return what the forward scan is compiled for."""
    named = {"CURRENT": ops.CURRENT, "ADAPTIVE": ops.ADAPTIVE, "COUNTS": ops.COUNTS, "SUBTRACT": ops.SUBTRACT}
    found = {name: bool(kind & bit) for name, bit in named.items()}
    return found | {"STRICT": bool(flags & ops.STRICT), "MOVING": bool(flags & ops.MOVING)}


@triton.jit
def spikes_at(u, h, most, COUNTS: tl.constexpr, STRICT: tl.constexpr, REAL: tl.constexpr):
    """Return the number of spikes at a potential `u` and a threshold `h`."""
    if COUNTS:
        if REAL == tl.float32:  # its `/` is not rounded to the nearest, which would move a spike
            ratio = tl.div_rn(u, h)
        else:
            ratio = u / h
        n = tl.where(u > 0, tl.floor(ratio), 0.0)
        return tl.where(n > most, most, n)
    elif STRICT:
        return tl.where(u > h, 1.0, 0.0).to(REAL)
    else:
        return tl.where(u >= h, 1.0, 0.0).to(REAL)


@triton.jit
def left_by(u, s, r, SUBTRACT: tl.constexpr):
    """Return what a reset leaves of a potential `u` after `s` spikes, before it is raised to the lower bound."""
    if SUBTRACT:
        return u - r * s
    else:
        return tl.where(s > 0, 0.0, u)


@triton.jit(do_not_specialize=[*CONSTANTS, "most", "steps"])
def _neuron(
    x,
    current,
    membrane,
    adaptation,
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
    spikes,
    emitted,
    after_current,
    after_membrane,
    after_adaptation,
    currents,
    membranes,
    adaptations,
    steps,
    width,
    CURRENT: tl.constexpr,
    ADAPTIVE: tl.constexpr,
    COUNTS: tl.constexpr,
    SUBTRACT: tl.constexpr,
    STRICT: tl.constexpr,
    MOVING: tl.constexpr,
    EMITS: tl.constexpr,
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
    c = each(current, 0, neurons, inside, REAL, BLOCK)
    v = each(membrane, 0, neurons, inside, REAL, BLOCK)
    w = each(adaptation, 0, neurons, inside, REAL, BLOCK)
    for _ in tl.range(steps, num_stages=AHEAD):
        if currents is not None:
            tl.store(currents + neurons, c, inside)
            currents += width
        if membranes is not None:
            tl.store(membranes + neurons, v, inside)
            membranes += width
        if adaptations is not None:
            tl.store(adaptations + neurons, w, inside)
            adaptations += width
        drive = gain * tl.load(x + neurons, inside, other=0).to(REAL)
        if not REPEATED:
            x += width
        if CURRENT:
            c = current_leak * c + drive
            drive = current_gain * c
        u = leak * v + drive
        h = threshold
        r = reset_amount
        if ADAPTIVE:
            h = threshold + w
            if MOVING:
                r = reset_amount + w
        s = spikes_at(u, h, most, COUNTS, STRICT, REAL)
        left = left_by(u, s, r, SUBTRACT)
        v = tl.where(left < lower_bound, lower_bound, left)
        if ADAPTIVE:
            w = adaptation_leak * w + adaptation_jump * s
        if spikes is not None:
            tl.store(spikes + neurons, s, inside)
            spikes += width
        if emitted is not None:
            if EMITS == 2:
                e = v
            elif EMITS == 3:
                e = u - h
            else:
                e = u
            tl.store(emitted + neurons, e, inside)
            emitted += width
    if after_current is not None:
        tl.store(after_current + neurons, c, inside)
    if after_membrane is not None:
        tl.store(after_membrane + neurons, v, inside)
    if after_adaptation is not None:
        tl.store(after_adaptation + neurons, w, inside)
