r"""The scan of neurons with an alpha-shaped response: a leaky current into a leaky potential, then fire and reset.

With :math:`\rho = e^{-1/\tau}`, for every step of a chunk,

.. math::
    c[t] = \rho\,c[t-1] + \tfrac{e}{\tau} x[t], \qquad u[t] = \rho\,v[t-1] + c[t], \qquad
    s[t] = \Theta(u[t] - V_{th}),

.. math::
    v[t] = u[t] - V_{th} s[t] \ \text{(subtract)} \quad\text{or}\quad v[t] = u[t](1 - s[t]) \ \text{(zero)}.
"""

import math
from typing import Any

import torch
from torch import Tensor

from spikewright.kernels import alpha_operators  # noqa: F401  # pyright: ignore[reportUnusedImport]  (defines the operators)
from spikewright.kernels.backward import given_slopes, known, refuse_second_derivative
from spikewright.kernels.layout import Layout, aligned, precision
from spikewright.kernels.lif import Reset
from spikewright.kernels.operators import fused, surrogate_number
from spikewright.surrogate import Surrogate

Scanned = tuple[Tensor, Tensor, Tensor]
"""Spikes, `[time, batch, *feature]`; current and membrane after the last step, `[batch, *feature]`."""


def constants(tau: float) -> tuple[float, float]:
    r"""Return the fraction :math:`\rho` that current and potential retain per step, and the input gain e / tau."""
    return math.exp(-1 / tau), math.e / tau


def alpha_naive(
    x: Tensor,
    current: Tensor | None,
    membrane: Tensor | None,
    *,
    tau: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> Scanned:
    """Step by step, differentiated by autograd: the reference of `alpha_scan`."""
    rho, gain = constants(tau)
    c, v = (torch.zeros_like(x[0]) if carried is None else carried for carried in (current, membrane))
    spikes = []
    for step in x:
        c = rho * c + gain * step
        u = rho * v + c
        s = surrogate(u - threshold)
        r = s.detach() if detach_reset else s
        v = u - threshold * r if reset == "subtract" else u * (1 - r)
        if not through_time:
            c, v = c.detach(), v.detach()
        spikes.append(s)
    return torch.stack(spikes), c, v


def alpha_scan(
    x: Tensor,
    current: Tensor | None,
    membrane: Tensor | None,
    *,
    tau: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> Scanned:
    """Run alpha neurons over a chunk, on a CPU in one pass over memory if the kernels are compiled.

    Args:
        x: Summed synaptic input, `[time, batch, *feature]`.
        current: Synaptic current after the step before, `[batch, *feature]`; `None` is 0.
        membrane: Potential after the last reset, `[batch, *feature]`; `None` is 0.
        tau: Time constant of current and potential, in steps, positive.
        threshold: Firing threshold, and what a soft reset takes off the potential.
        reset: Subtract the threshold, or return to zero.
        detach_reset: Keep the backward pass out of the reset.
        surrogate: The step function with its slope, applied to `u - threshold`.
        through_time: Keep the backward path from one step to the next; `False` cuts current and potential there.

    Returns:
        Spikes in the dtype of `x`; current and membrane in float32 for inputs of half precision.
    """
    wide = x.to(precision(x))  # a long sum of small terms
    usual = type(surrogate).__call__ is Surrogate.__call__
    scan = _alpha_fused if usual and x.device.type == "cpu" and fused(wide) else alpha_naive
    spikes, after_current, after_membrane = scan(
        wide,
        *(None if carried is None else carried.to(wide.dtype) for carried in (current, membrane)),
        tau=tau,
        threshold=threshold,
        reset=reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        through_time=through_time,
    )
    return spikes.to(x.dtype), after_current, after_membrane


def _alpha_fused(
    x: Tensor,
    current: Tensor | None,
    membrane: Tensor | None,
    *,
    tau: float,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> Scanned:
    layout = Layout.of(x)
    carried = aligned(layout, x, current), aligned(layout, x, membrane)
    neuron = (*constants(tau), threshold, reset == "subtract")
    if torch.is_grad_enabled():
        operands = layout.steps(x), *carried, neuron, detach_reset, through_time, surrogate, layout
        spikes, after_current, after_membrane = _Scan.apply(*operands)  # type: ignore[misc]
    else:
        spikes, _, after_current, after_membrane = torch.ops.spikewright.alpha(
            layout.steps(x), *carried, *neuron, False
        )
    return layout.undo_steps(spikes), layout.undo_one(after_current), layout.undo_one(after_membrane)


class _Scan(torch.autograd.Function):
    """The fused scan; like that of `spikewright.kernels.lif` it keeps the potentials, or runs again from its input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        current: Tensor | None,
        membrane: Tensor | None,
        neuron: tuple[float, float, float, bool],
        detach_reset: bool,
        through_time: bool,
        surrogate: Surrogate,
        layout: Layout,
    ) -> Scanned:
        wanted = any(ctx.needs_input_grad)
        carried = [c for c in (current, membrane) if c is not None]
        again = wanted and known(surrogate) and (not carried or len(x) > 3)  # little to keep beside the input
        outputs = torch.ops.spikewright.alpha(x, current, membrane, *neuron, wanted and not again)
        spikes, potential, after_current, after_membrane = outputs
        ctx.save_for_backward(*(x, current, membrane) if again else (potential, None, None))
        ctx.again, ctx.options = again, (*neuron, detach_reset, through_time)
        ctx.surrogate, ctx.layout = surrogate, layout
        ctx.set_materialize_grads(False)
        if not through_time:
            ctx.mark_non_differentiable(after_current, after_membrane)
        elif not any(ctx.needs_input_grad[:2]):  # the potential has no part in the current
            ctx.mark_non_differentiable(after_current)
        return spikes, after_current, after_membrane

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        x, current, membrane = ctx.saved_tensors
        arriving = [None if grad is None else grad.contiguous() for grad in grads]
        slopes = given_slopes(ctx.surrogate, ctx.layout, x, threshold=ctx.options[2])
        given = (current, membrane, *arriving, slopes, *ctx.options, *surrogate_number(ctx.surrogate))
        found = torch.ops.spikewright.alpha_backward(x, ctx.again, *given)
        wanted = (grad if needed else None for grad, needed in zip(found, ctx.needs_input_grad))
        return *wanted, None, None, None, None, None
