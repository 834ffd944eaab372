"""What a neuron declares of its dynamics: everything that is promised of it elsewhere rests on this."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Dynamics:
    r"""The declaration of a neuron; nothing is promised of what it leaves out.

    Attributes:
        decay: Share :math:`\lambda` of the potential that is left after a step, a number or one per channel: the
            potential is a sum of inputs weighted by :math:`\lambda^{age}`, less what resets took off.  `None`: there is
            no such number.
        linear: Between spikes, the potential is linear in the current, however strong: without floor or ceiling.
        rate_map: Maps a mean current `[batch, *feature]` to the mean output that the neuron tends to over many steps,
            differentiable; `None`: there is no such map.
        binary: All it emits is zeros and ones.
        soft_reset: A spike takes a constant off the potential and leaves the rest.
        detached_reset: No gradient passes through the reset.
    """

    decay: float | Tensor | None = None
    linear: bool = False
    rate_map: Callable[[Tensor], Tensor] | None = None
    binary: bool = False
    soft_reset: bool = False
    detached_reset: bool = False


UNKNOWN = Dynamics()
"""Of a neuron with a scan of its own that declares nothing."""
