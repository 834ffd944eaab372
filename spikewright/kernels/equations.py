r"""The equations of a neuron, as the scans over time compute them.

With input :math:`x`, for every step, a synaptic current where there is one and a threshold that moves where there is,

.. math::
    c[t] &= a\,c[t-1] + k\,x[t], \qquad u[t] = b\,v[t-1] + g\,c[t] \ \text{(or}\ b\,v[t-1] + k\,x[t]\text{)}, \\
    h[t] &= V_{th} + w[t-1], \qquad s[t] = \Theta(u[t] - h[t]) \ \text{or the number of thresholds in}\ u[t], \\
    v[t] &= \max(u[t] - R\,s[t],\ V_{low}) \ \text{or}\ 0 \ \text{after a spike}, \qquad
    w[t] = \rho\,w[t-1] + j\,s[t].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, cast

from torch import Tensor

from spikewright.kernels.lif import Reset
from spikewright.surrogate import Surrogate

Constant = float | Tensor
"""A number, or a tensor that broadcasts to `[batch, *feature]`."""
Emits = Literal["nothing", "before reset", "after reset", "overdrive"]
"""What a scan returns beside spikes: u[t], v[t], or u[t] - h[t]."""
CONSTANTS = (
    "gain current_leak current_gain leak threshold reset_amount lower_bound adaptation_leak adaptation_jump".split()
)
"""Names of the constants, in the order in which kernels take them."""


@dataclass(frozen=True)
class Equations:
    """Constants and switches of a neuron.

    Attributes:
        leak: Share b of the potential that is left after a step.
        threshold: Firing threshold; infinite for a neuron that never fires.
        reset_amount: What a soft reset takes off the potential.
        reset: Take the reset amount off ("subtract"), or return to 0 ("zero").
        detach_reset: Keep the backward pass out of the reset.
        surrogate: Slope of a spike, at u - h.
        gain: Factor k of the input.
        has_current: True if there is a synaptic current.
        current_leak: Share a of the current that is left after a step.
        current_gain: Factor g of the current at the potential.
        lower_bound: Least potential after a reset.
        strict: Fire above the threshold, and not at it.
        max_spikes: Largest number of spikes in a step; infinite for no limit.
        adaptive: True if the threshold moves.
        adaptation_leak: Share of the shift of the threshold that is left after a step.
        adaptation_jump: Shift of the threshold by a spike.
        moving_reset: Take the shift of the threshold off with the reset amount.
    """

    leak: Constant
    threshold: Constant
    reset_amount: Constant
    reset: Reset
    detach_reset: bool
    surrogate: Surrogate
    gain: Constant = 1.0
    has_current: bool = False
    current_leak: Constant = 0.0
    current_gain: Constant = 1.0
    lower_bound: Constant = -math.inf
    strict: bool = False
    max_spikes: float = 1
    adaptive: bool = False
    adaptation_leak: Constant = 0.0
    adaptation_jump: Constant = 0.0
    moving_reset: bool = False

    def each(self, change: Callable[[Tensor], Tensor]) -> "Equations":
        """Return the equations with a change made to every constant that is a tensor."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name in CONSTANTS}
        return replace(self, **{name: change(c) for name, c in found.items() if isinstance(c, Tensor)})

    @property
    def constants(self) -> tuple[Constant, ...]:
        """All constants, in order."""
        return tuple(cast(Constant, getattr(self, name)) for name in CONSTANTS)

    @property
    def silent(self) -> bool:
        """True if a neuron never fires."""
        return isinstance(self.threshold, float) and self.threshold == math.inf

    @property
    def counts(self) -> bool:
        """True if a neuron may send several spikes in a step."""
        return self.max_spikes != 1
