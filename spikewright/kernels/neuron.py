"""The scan of neurons in general: any of the equations of `spikewright.kernels.equations`, over a chunk of steps."""

from typing import Any

import torch
from torch import Tensor

from spikewright.kernels import neuron_operators as ops
from spikewright.kernels.backward import refuse_second_derivative
from spikewright.kernels.equations import Constant, Emits, Equations
from spikewright.kernels.layout import Layout, aligned, precision
from spikewright.kernels.neuron_naive import Carried, Scanned, neuron_naive
from spikewright.kernels.operators import fused, surrogate_number
from spikewright.surrogate import Surrogate, slope_at


def neuron_scan(
    x: Tensor, carried: Carried, equations: Equations, through_time: bool, emits: Emits = "nothing"
) -> Scanned:
    """Run neurons over a chunk, in one pass over memory where there are kernels.

    Args:
        x: Summed synaptic input, `[time, batch, *feature]`.
        carried: Synaptic current, potential and shift of the threshold after the step before, `[batch, *feature]`;
            `None` is 0.
        equations: Equations of the neurons.
        through_time: Keep the backward path from one step to the next; `False` cuts it at every step.
        emits: What to return beside the spikes.

    Returns:
        Spikes, and what else is emitted, `[time, batch, *feature]`, in the dtype of `x`; synaptic current, potential
        and shift of the threshold after the last step, `[batch, *feature]`, in float32 at least, or `None` for what
        the neurons do not have.
    """
    wide = x.to(precision(x))
    before = tuple(None if value is None else value.to(wide.dtype) for value in carried)
    equations = equations.each(lambda constant: constant.to(wide.dtype))
    usual = type(equations.surrogate).__call__ is Surrogate.__call__
    scan = _fused if usual and fused(wide) else neuron_naive
    spikes, emitted, *after = scan(wide, before, equations, through_time, emits)  # type: ignore[arg-type]
    return spikes.to(x.dtype), None if emitted is None else emitted.to(x.dtype), *after


def _fused(x: Tensor, carried: Carried, equations: Equations, through_time: bool, emits: Emits) -> Scanned:
    layout = Layout.of(x)
    states = [aligned(layout, x, value) for value in carried]
    arrays = [aligned(layout, x, c) if isinstance(c, Tensor) else None for c in equations.constants]
    steps = layout.steps(x)
    if torch.is_grad_enabled():
        outputs = _Scan.apply(steps, *states, *arrays, equations, through_time, emits, layout)  # type: ignore[misc]
    else:
        outputs = torch.ops.spikewright.neuron(steps, states, arrays, *_options(equations, through_time, emits))
    spikes, emitted, current, membrane, adaptation = outputs
    return (
        layout.undo_steps(spikes),
        None if emits == "nothing" else layout.undo_steps(emitted),
        layout.undo_one(current) if equations.has_current else None,
        layout.undo_one(membrane),
        layout.undo_one(adaptation) if equations.adaptive else None,
    )


def _options(eq: Equations, through_time: bool, emits: Emits) -> tuple[list[float], int, int, float, int]:
    """Return the numbers among the constants, and the switches, as the operators take them."""
    kind = (ops.CURRENT, eq.has_current), (ops.ADAPTIVE, eq.adaptive), (ops.COUNTS, eq.counts)
    kind = (*kind, (ops.SUBTRACT, eq.reset == "subtract"))
    flags = (ops.STRICT, eq.strict), (ops.MOVING, eq.moving_reset), (ops.ATTACHED, not eq.detach_reset)
    flags = (*flags, (ops.THROUGH_TIME, through_time))
    return (
        [_number(constant) for constant in eq.constants],
        sum(bit for bit, is_set in kind if is_set),
        sum(bit for bit, is_set in flags if is_set),
        float(eq.max_spikes),
        ops.EMITS.index(emits),
    )


def _number(constant: Constant) -> float:
    return 0.0 if isinstance(constant, Tensor) else float(constant)


class _Scan(torch.autograd.Function):
    """The fused scan.  Its backward scan finds potentials again from the input, so nothing else is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> tuple[Tensor, ...]:
        states, arrays, (equations, through_time, emits, layout) = given[:3], given[3:12], given[12:]
        options = _options(equations, through_time, emits)
        outputs = torch.ops.spikewright.neuron(x, list(states), list(arrays), *options)
        ctx.save_for_backward(x, *states, *arrays)
        ctx.equations, ctx.options, ctx.layout = equations, options, layout
        ctx.set_materialize_grads(False)
        if not through_time:
            ctx.mark_non_differentiable(*outputs[2:])
        elif not any(ctx.needs_input_grad[i] for i in (0, 1, 4, 5)):  # of input, current and their constants
            ctx.mark_non_differentiable(outputs[2])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        x, *saved = ctx.saved_tensors
        states, arrays, needed = saved[:3], saved[3:], ctx.needs_input_grad
        at_spikes, at_emitted, *at_after = (None if grad is None else grad.contiguous() for grad in grads)
        number, parameter, factor = surrogate_number(ctx.equations.surrogate)
        slopes = None
        if ctx.equations.silent:
            number = -1
        elif number == 0:  # a surrogate of the user's own, which may know its axes
            *options, _ = ctx.options
            over = torch.ops.spikewright.neuron(x, states, arrays, *options, ops.EMITS.index("overdrive"))[1]
            slopes = ctx.layout.steps(slope_at(ctx.equations.surrogate, ctx.layout.undo_steps(over))).contiguous()
        grad_x, grad_states, grad_constants = torch.ops.spikewright.neuron_backward(
            *(x, states, arrays, *ctx.options),
            *(at_spikes, at_emitted, [grad if grad is None or grad.numel() else None for grad in at_after]),
            *(slopes, number, parameter, factor, list(needed[4:13])),
        )
        before = (grad if want and grad.numel() else None for grad, want in zip(grad_states, needed[1:4], strict=True))
        constants = (grad if want else None for grad, want in zip(grad_constants, needed[4:13], strict=True))
        return grad_x if needed[0] else None, *before, *constants, None, None, None, None
