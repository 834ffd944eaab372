r"""Traces of what arrives at a layer: leaky sums whose weights are the response of the neurons behind it.

A potential of decay b behind a synaptic current of decay a answers an input, k steps later, by
:math:`h(k) \propto \sum_j a^j b^{k-j}`.  A sum of inputs with these weights is two traces in a row,

.. math::
    q[t] = a\, q[t-1] + x[t], \qquad p[t] = b\, p[t-1] + q[t],

and one where there is no such current.
"""

import torch
from torch import Tensor

from spikewright.kernels.trace import trace_scan
from spikewright.neurons import Dynamics
from spikewright.temporal import SiteState

Decay = float | Tensor
Taps = tuple[Decay, ...]
"""Decays of the traces in a row, that of the current first; empty where the input itself is taken."""


def taps_of(dynamics: Dynamics) -> tuple[Decay | None, ...]:
    """Return the decays that neurons declare, that of their current first, each of one entry without axes.

    Args:
        dynamics: What the neurons declare.
    """
    both = (dynamics.decay,) if dynamics.current_decay is None else (dynamics.current_decay, dynamics.decay)
    return tuple(one_entry(decay) for decay in both)


def one_entry(decay: Decay | None) -> Decay | None:
    """Return a decay of one entry without axes, and others as they are."""
    return decay.reshape(()) if isinstance(decay, Tensor) and decay.numel() == 1 else decay


def number(decay: Decay | None) -> float | None:
    """Return the number that a decay is; `None` if there is none, or one per channel."""
    if isinstance(decay, Tensor):
        return decay.detach().item() if decay.numel() == 1 else None
    return decay


def remembering(taps: tuple[Decay | None, ...]) -> Taps:
    """Return the decays of those traces that hold more than the last step."""
    return tuple(tap for tap in taps if tap is not None and not (isinstance(tap, float) and tap == 0))


def traced(x: Tensor, carried: SiteState, taps: Taps) -> tuple[Tensor, SiteState]:
    """Return the trace of an input after every step, `[time, batch, *feature]`, and what is carried on.

    Args:
        x: Input, `[time, batch, *feature]`.
        carried: What the last chunk carried on.
        taps: Decays of the traces, at least one.
    """
    after: SiteState = {}
    for tap, name in zip(taps, _names("trace", len(taps))):
        x, after[name] = trace_scan(x, carried.get(name), tap)
    return x, after


@torch.no_grad()
def traced_ones(steps: int, carried: SiteState, taps: Taps, like: Tensor) -> tuple[Tensor, SiteState]:
    """Return the trace of a bias, whose input is 1 at every step, `[time]`, and what is carried on.

    Args:
        steps: Number of steps.  At least 1.
        carried: What the last chunk carried on.
        taps: Decays of the traces, at least one.
        like: Tensor that gives type and device.
    """
    after: SiteState = {}
    x = like.new_ones(steps)
    for tap, name in zip(taps, _names("bias_trace", len(taps))):
        before = carried.get(name)
        if steps > 1:
            x = trace_scan(x[:, None], None if before is None else before.reshape(1), tap)[0][:, 0]
        elif before is not None:
            x = x + before * tap
        after[name] = x[-1]
    return x, after


def _names(name: str, taps: int) -> tuple[str, ...]:
    return (name,) if taps == 1 else (f"current_{name}", name)
