r"""The neuron scan: charge, fire, reset, for every step of a chunk.

.. math::
    u[t] = \lambda v[t-1] + I[t], \qquad s[t] = \Theta(u[t] - V_{th}), \qquad
    v[t] = u[t] - V_{th} s[t] \ \text{(subtract)} \quad\text{or}\quad v[t] = u[t](1 - s[t]) \ \text{(zero)}
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Reset = Literal["subtract", "zero"]


def lif_scan(
    current: Tensor,
    membrane: Tensor | None,
    *,
    leak: float | Tensor,
    threshold: float,
    reset: Reset,
    detach_reset: bool,
    spike: Callable[[Tensor], Tensor],
    through_time: bool,
) -> tuple[Tensor, Tensor]:
    """Run a leaky integrator over a chunk.

    Args:
        current: Summed synaptic input, `[time, batch, *feature]`.
        membrane: Potential after the last reset, `[batch, *feature]`; `None` is rest (0).
        leak: Retained fraction per step; 1 integrates without loss.  A tensor must broadcast to `[batch, *feature]`.
        threshold: Firing threshold.
        reset: Subtract the threshold, or return to zero.
        detach_reset: Keep the backward pass out of the reset.
        spike: The step function with its surrogate, applied to `u - threshold`.
        through_time: Keep the backward path from one step to the next; `False` cuts it at every charge.

    Returns:
        spikes: 0 or 1, `[time, batch, *feature]`.
        membrane: After the last step, `[batch, *feature]`.
    """
    spikes = []
    for step in current:
        u = step if membrane is None else leak * membrane + step
        s = spike(u - threshold)
        r = s.detach() if detach_reset else s
        membrane = u - threshold * r if reset == "subtract" else u * (1 - r)
        if not through_time:
            membrane = membrane.detach()
        spikes.append(s)
    assert membrane is not None  # a chunk has at least one step
    return (spikes[0].unsqueeze(0) if len(spikes) == 1 else torch.stack(spikes)), membrane
