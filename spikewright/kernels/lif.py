r"""The neuron scan: charge, fire, reset, for every step of a chunk.

.. math::
    u[t] = \lambda v[t-1] + I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad
    v[t] = u[t] - R s[t] \ \text{(subtract)} \quad\text{or}\quad v[t] = u[t](1 - s[t]) \ \text{(zero)}

The reset amount :math:`R` is the threshold :math:`V_{th}` unless it is given.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from spikewright.kernels.backward import given_slopes, refuse_second_derivative
from spikewright.kernels.layout import Layout, operands, precision
from spikewright.kernels.operators import fused, kernels, surrogate_number
from spikewright.surrogate import Surrogate

Reset = Literal["subtract", "zero"]


def lif_naive(
    current: Tensor,
    membrane: Tensor | None,
    *,
    leak: float | Tensor,
    threshold: float,
    reset_amount: float | None = None,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> tuple[Tensor, Tensor]:
    """Step by step, differentiated by autograd: what `lif_scan` means."""
    reset_amount = threshold if reset_amount is None else reset_amount
    spikes = []
    for step in current:
        u = step if membrane is None else leak * membrane + step
        s = surrogate(u - threshold)
        r = s.detach() if detach_reset else s
        membrane = u - reset_amount * r if reset == "subtract" else u * (1 - r)
        if not through_time:
            membrane = membrane.detach()
        spikes.append(s)
    assert membrane is not None  # a chunk has at least one step
    return (spikes[0].unsqueeze(0) if len(spikes) == 1 else torch.stack(spikes)), membrane


def lif_scan(
    current: Tensor,
    membrane: Tensor | None,
    *,
    leak: float | Tensor,
    threshold: float,
    reset_amount: float | None = None,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> tuple[Tensor, Tensor]:
    """Run a leaky integrator over a chunk, in one pass over memory where there is a kernel for it.

    Args:
        current: Summed synaptic input, `[time, batch, *feature]`.
        membrane: Potential after the last reset, `[batch, *feature]`; `None` is rest (0).
        leak: Retained fraction per step; 1 integrates without loss.  A tensor must broadcast to `[batch, *feature]`.
        threshold: Firing threshold.
        reset_amount: What a soft reset takes off the potential; `None` is the threshold.  A hard reset ignores it.
        reset: Subtract the reset amount, or return to zero.
        detach_reset: Keep the backward pass out of the reset.
        surrogate: The step function with its slope, applied to `u - threshold`.
        through_time: Keep the backward path from one step to the next; `False` cuts it at every charge.

    Returns:
        spikes: 0 or 1, `[time, batch, *feature]`, in the dtype of the current.
        membrane: After the last step, `[batch, *feature]`; in float32 for currents of half precision.
    """
    usual = type(surrogate).__call__ is Surrogate.__call__
    fits, wide = usual and fused(current), current
    if not fits:
        wide = current.to(precision(current))
        fits = usual and fused(wide)
    scan = _lif_fused if fits else lif_naive
    spikes, membrane = scan(
        wide,
        None if membrane is None else membrane.to(precision(current)),  # which an earlier chunk may have had otherwise
        leak=leak,
        threshold=threshold,
        reset_amount=reset_amount,
        reset=reset,
        detach_reset=detach_reset,
        surrogate=surrogate,
        through_time=through_time,
    )
    return spikes.to(current.dtype), membrane


def _lif_fused(
    current: Tensor,
    membrane: Tensor | None,
    *,
    leak: float | Tensor,
    threshold: float,
    reset_amount: float | None = None,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    through_time: bool,
) -> tuple[Tensor, Tensor]:
    layout = Layout.of(current)
    current, membrane, leaks, leak = operands(layout, current, membrane, leak)
    reset_amount = threshold if reset_amount is None else reset_amount
    subtract = reset == "subtract"
    if torch.is_grad_enabled():
        spikes, after = _Scan.apply(  # type: ignore[misc]
            current,
            membrane,
            leaks,
            leak,
            threshold,
            reset_amount,
            subtract,
            detach_reset,
            through_time,
            surrogate,
            layout,
        )
    else:
        neuron = (leaks, leak, threshold, reset_amount, subtract)
        spikes, _, after = torch.ops.spikewright.lif(current, membrane, *neuron, False)
    return layout.undo_steps(spikes), layout.undo_one(after)


class _Scan(torch.autograd.Function):
    """The fused scan.

    The backward scan needs the potential before the reset.  It is kept, or found again by running the scan once more
    from the current: then nothing is kept but that, which the network has in memory already.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        membrane: Tensor | None,
        leaks: Tensor | None,
        leak: float,
        threshold: float,
        reset_amount: float,
        subtract: bool,
        detach_reset: bool,
        through_time: bool,
        surrogate: Surrogate,
        layout: Layout,
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad)
        for_leaks = ctx.needs_input_grad[2]
        little = membrane is None or len(current) > 3  # to keep the membrane beside the current
        again = (
            wanted and surrogate_number(surrogate)[0] > 0 and not for_leaks and little and kernels(current).RUNS_AGAIN
        )
        spikes, potential, after = torch.ops.spikewright.lif(
            current, membrane, leaks, leak, threshold, reset_amount, subtract, wanted and not again
        )
        ctx.again = again
        ctx.save_for_backward(current if again else potential, membrane if again or for_leaks else None, leaks)
        ctx.neuron = leak, threshold, reset_amount, subtract, detach_reset, through_time
        ctx.surrogate, ctx.layout = surrogate, layout
        ctx.set_materialize_grads(False)
        if not through_time:
            ctx.mark_non_differentiable(after)
        return spikes, after

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        grad_spikes, grad_after = grads
        x, membrane, leaks = ctx.saved_tensors
        _, threshold, reset_amount, subtract, *_ = ctx.neuron
        grad_current, grad_membrane = torch.ops.spikewright.lif_backward(
            x,
            ctx.again,
            membrane,
            None if grad_spikes is None else grad_spikes.contiguous(),
            None if grad_after is None else grad_after.contiguous(),
            given_slopes(ctx.surrogate, ctx.layout, x, threshold),
            leaks,
            *ctx.neuron,
            *surrogate_number(ctx.surrogate),
        )
        grad_leaks = None
        if ctx.needs_input_grad[2]:  # u[t] = leak * v[t-1] + current[t]
            s = (x >= threshold).to(x.dtype)
            v = x - reset_amount * s if subtract else x * (1 - s)
            grad_leaks = (grad_current[1:] * v[:-1]).sum(0)
            if membrane is not None:
                grad_leaks = grad_leaks + grad_current[0] * membrane
        before = grad_membrane if ctx.needs_input_grad[1] else None
        return grad_current, before, grad_leaks, None, None, None, None, None, None, None, None
