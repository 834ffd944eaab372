r"""The potential of a neuron in double precision, with given spikes put in, and by how much it may be off.

In the precision of a run two neurons know the potential :math:`u` to within an error :math:`e`, to which each operation
adds.  For a neuron without a synaptic current, with decay :math:`\lambda`, scale :math:`k` and reset amount :math:`R`,

.. math::
    e[t] = \lambda e[t-1] + \varepsilon\,(|\lambda v[t-1]| + 2 |k I[t]| + |u[t]| + |R s[t]|).

A current with a decay of its own, and a threshold that moves, have errors of the same kind.  Potentials that come to a
threshold through binary fractions alone are exact, and have none.  Where currents are scaled by a number that is no
binary fraction, firing at the threshold and firing above it are the same but for rounding.
"""

import math

import torch
from torch import Tensor

from spikewright.interop.mapping import Mapping


class Forced:
    """The state of a neuron in double precision, step by step, with given spikes put in.

    Args:
        mapping: The neuron.
        current: Its whole current, `[time, batch, *feature]`.
    """

    def __init__(self, mapping: Mapping, current: Tensor) -> None:
        neuron, self.mapping = mapping.neuron, mapping
        self.equations = neuron.equations(current).each(lambda constant: constant.detach().double())
        self.analog = not neuron.spiking
        self.epsilon = torch.finfo(current.dtype).eps
        zero = torch.zeros(current.shape[1:], dtype=torch.float64, device=current.device)
        known = torch.as_tensor(mapping.fires_at, dtype=torch.float64)
        self.base = known.to(current.device, current.dtype).double()  # as the run knows it
        self.v = self.u = self.c = self.w = self.error = self.current_error = self.shift_error = zero
        self.exact = self.exact_current = torch.ones_like(zero, dtype=torch.bool)
        self.tied = self.epsilon if getattr(neuron, "_tied", False) else 0.0
        """Error of an input scale 1 - leak, where the leak is computed from what is trained."""
        self.smooth = self.exact
        """Neurons whose potential was never within its error of the lower bound, where slopes jump."""

    def charge(self, current: Tensor, more: Tensor | float = 0.0) -> None:
        """Take in the current of a step; `more` is by how much it may be off."""
        eq, rest = self.equations, self.mapping.rests_at
        x = current.double()
        added, more = eq.gain * x, abs(eq.gain) * torch.as_tensor(more)
        grid = _on_grid(x) & _on_grid(added)
        if eq.has_current:
            left = eq.current_leak * self.c
            self.c = left + added
            rounded = self.epsilon * (left.abs() + 2 * added.abs() + self.c.abs())
            self.current_error = eq.current_leak * self.current_error + rounded + more
            self.exact_current = self.exact_current & grid & _on_grid(left) & _on_grid(self.c)
            added, more = eq.current_gain * self.c, abs(eq.current_gain) * self.current_error
            grid = self.exact_current & _on_grid(added)
        kept = eq.leak * self.v
        self.u = kept + added
        plain = (self.v == 0) & (added == current) & (rest == 0)  # nothing is computed
        plain = plain & self.exact_current if eq.has_current else plain
        grid = grid & _on_grid(kept) & _on_grid(self.u + rest) & _on_grid(torch.tensor(rest, dtype=torch.float64))
        self.exact = self.exact & (plain | grid)
        rounded = self.epsilon * (kept.abs() + 2 * added.abs() + self.u.abs() + 2 * abs(rest))
        self.error = eq.leak * self.error + rounded + more + 2 * self.tied * x.abs()

    @property
    def limit(self) -> Tensor:
        """Potential that is compared with: their threshold, with what it moved by."""
        return self.base + self.w

    @property
    def nearest(self) -> Tensor:
        """The nearest potential at which the number of spikes changes."""
        if not self.equations.counts:
            return self.limit
        most = self.equations.max_spikes
        return self.limit * (self.u / self.limit).round().clamp(1, None if most == math.inf else most)

    def decide(self) -> Tensor:
        """Return the number of spikes, as theirs compares."""
        if self.equations.counts:
            counts = (self.u / self.limit).floor().clamp(0, self.equations.max_spikes)
            return torch.where(self.u > 0, counts, 0.0)
        return (self.u > self.limit if self.mapping.strict else self.u >= self.limit).double()

    def rounds(self) -> Tensor:
        """Return where either decision is within the rounding error, and not at an exact tie."""
        limit = self.nearest
        tie = (self.u == limit) & self.exact
        return ((self.u - limit).abs() <= self.error + self.shift_error + self.epsilon * limit.abs()) & ~tie

    def sends(self, output: Tensor) -> Tensor:
        """Return the number of spikes in an output of a step."""
        if self.analog:
            return torch.zeros_like(output, dtype=torch.float64)
        return output.double().round() if self.equations.counts else (output != 0).double()

    def differs(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return where two outputs of a step differ: any spike, or potentials by more than their rounding."""
        if not self.analog:
            return ours != theirs.to(ours.dtype)
        allowed = 2 * self.error + 4 * self.epsilon * self.u.abs()
        return ((ours.double() - self.u).abs() > allowed) | ((theirs.double() - self.u).abs() > allowed)

    def reset(self, sent: Tensor) -> None:
        """Reset where spikes were sent, `sent` of them, and move the threshold."""
        eq, fired = self.equations, sent != 0
        if eq.reset == "zero":
            self.v, self.error = self.u.masked_fill(fired, 0), self.error.masked_fill(fired, 0)
            self.exact = self.exact | fired
        else:
            amount = eq.reset_amount + self.w if eq.moving_reset else eq.reset_amount
            self.v = self.u - amount * sent
            self.exact = self.exact & (~fired | _on_grid(self.v))
            off = self.shift_error if eq.moving_reset else 0.0
            self.error = self.error + (self.epsilon * abs(amount) + off) * sent
        self._bound()
        if eq.adaptive:
            self.exact = self.exact & (self.w == 0) & ~fired
            rise = eq.adaptation_jump * sent
            self.w = eq.adaptation_leak * self.w + rise
            rounded = self.epsilon * (self.w.abs() + 2 * abs(rise))
            self.shift_error = eq.adaptation_leak * self.shift_error + rounded

    def _bound(self) -> None:
        low = torch.as_tensor(self.equations.lower_bound)
        if bool((low == -math.inf).all()):
            return
        self.error = self.error + 2 * self.epsilon * (self.v.abs() + low.abs())
        self.smooth = self.smooth & ((self.v - low).abs() > self.error)
        self.exact = self.exact & _on_grid(self.v - low)
        self.v = self.v.maximum(low.to(self.v))


def _on_grid(x: Tensor) -> Tensor:
    """True for multiples of 2**-12 below 2**10: sums of such numbers are exact in float32, in any order."""
    return (x * 4096 == (x * 4096).round()) & (x.abs() < 1024)
