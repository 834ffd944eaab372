r"""Is a difference between two neurons rounding, or a fault?

The potential is computed once more in double precision, with the spikes of the other library put in, so that one
difference does not bring about others.  Theirs decides at :math:`u` against :math:`V`; in the precision of the run both
neurons know :math:`u` to within an error :math:`e`, which each operation adds to:

.. math::
    e[t] = \lambda e[t-1] + \varepsilon\,(|\lambda v[t-1]| + 2 |k I[t]| + |u[t]| + |R s[t]|).

A difference with :math:`|u - V| \le e` is rounding.  Anything else is a fault, and so is a difference at a tie to which
potentials came without any rounding: from rest by one current with gain 1, or with a whole history on a coarse grid of
binary fractions.  Where currents are scaled by a number that is no binary fraction, firing at the threshold and firing
above it are the same but for rounding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.interop.mapping import Mapping


@dataclass(frozen=True)
class Fault:
    """A spike that is not there, or is there, and not for rounding.

    Attributes:
        step: At which step.
        place: Index of the neuron, `[sample, *feature]`.
        fires: True if theirs fires there.
        u: Potential there, in double precision.
        threshold: What it is compared with.
    """

    step: int
    place: tuple[int, ...]
    fires: bool
    u: float
    threshold: float

    def __str__(self) -> str:
        theirs = "fires" if self.fires else "does not fire"
        return (
            f"at step {self.step}, neuron {list(self.place)}, theirs {theirs} at u = {self.u:.9g} with thr = "
            f"{self.threshold:.9g}"
        )


@dataclass(frozen=True)
class Compared:
    """What became of a comparison of spikes.

    Attributes:
        spikes: Number of spikes and silent steps that were compared.
        fired: How many of them were spikes of theirs.
        differing: How many differ.
        farthest: Largest distance to the threshold where they do, in units of the last place of the threshold.
        fault: The first that is not rounding; `None` if there is none.
        same: Neurons without a difference, bool `[batch, *feature]`.
    """

    spikes: int
    fired: int
    differing: int
    farthest: float
    fault: Fault | None
    same: Tensor


class Forced:
    """The potential of a neuron in double precision, step by step, with given spikes put in.

    Args:
        mapping: The neuron.
        current: Its whole current, `[time, batch, *feature]`.
    """

    def __init__(self, mapping: Mapping, current: Tensor) -> None:
        neuron, self.mapping = mapping.neuron, mapping
        leak = neuron._per_channel(neuron.leak, current) if isinstance(neuron.leak, Tensor) else neuron.leak
        self.leak = leak.detach().double() if isinstance(leak, Tensor) else leak
        self.epsilon = torch.finfo(current.dtype).eps
        self.limit = torch.tensor(mapping.fires_at, dtype=current.dtype).item()  # as the run knows it
        self.v = self.error = torch.zeros(current.shape[1:], dtype=torch.float64, device=current.device)
        self.u = self.v
        self.exact = torch.ones_like(self.v, dtype=torch.bool)

    def charge(self, current: Tensor, more: Tensor | float = 0.0) -> None:
        """Take in the current of a step; `more` is by how much it may be off."""
        gain = self.mapping.neuron.gain
        kept, added = self.leak * self.v, gain * current.double()
        self.u = kept + added
        rest = self.mapping.rests_at
        plain = (self.v == 0) & (added == current) & (rest == 0)  # nothing is computed
        on_grid = torch.stack([_on_grid(each) for each in (kept, added, current.double(), self.u + rest)]).all(0)
        self.exact &= plain | (on_grid & _on_grid(torch.tensor(rest, dtype=torch.float64)))
        rounded = self.epsilon * (kept.abs() + 2 * added.abs() + self.u.abs() + 2 * abs(rest))
        self.error = self.leak * self.error + rounded + abs(gain) * more

    def decide(self) -> Tensor:
        """Return whether it fires, as theirs compares."""
        return self.u > self.limit if self.mapping.strict else self.u >= self.limit

    def rounds(self) -> Tensor:
        """Return where either decision is within the rounding error, and not at an exact tie."""
        tie = (self.u == self.limit) & self.exact
        return ((self.u - self.limit).abs() <= self.error + self.epsilon * self.limit) & ~tie

    def reset(self, fired: Tensor) -> None:
        """Reset where `fired`."""
        if self.mapping.neuron.reset == "zero":
            self.v, self.error = self.u.masked_fill(fired, 0), self.error.masked_fill(fired, 0)
            self.exact |= fired
            return
        amount = self.mapping.quantum
        self.v = self.u - amount * fired.double()
        self.exact &= ~fired | _on_grid(self.v)
        self.error = self.error + self.epsilon * abs(amount) * fired.double()

    def fault(self, step: int, wrong: Tensor, fired: Tensor) -> Fault:
        """Return the first place of `wrong` as a fault."""
        place = tuple(torch.nonzero(wrong)[0].tolist())
        return Fault(step, place, bool(fired[place]), self.u[place].item(), self.limit)


def _on_grid(x: Tensor) -> Tensor:
    """True for multiples of 2**-12 below 2**10: sums of such numbers are exact in float32, in any order."""
    return (x * 4096 == (x * 4096).round()) & (x.abs() < 1024)


def compare(mapping: Mapping, current: Tensor, theirs: Tensor, ours: Tensor) -> Compared:
    """Compare the spikes of two neurons for the same current.

    Args:
        mapping: The neuron.
        current: Its current, `[time, batch, *feature]`.
        theirs: Output of the other library's neuron, in the same shape.
        ours: Output of ours.
    """
    forced, fault, farthest, differing = Forced(mapping, current), None, 0.0, 0
    same = torch.ones(current.shape[1:], dtype=torch.bool, device=current.device)
    fired_in_all = 0
    unit = torch.finfo(current.dtype).eps * abs(mapping.fires_at)
    for t, step in enumerate(current):
        fired = theirs[t] != 0
        fired_in_all += int(fired.sum())
        forced.charge(step)
        different = ours[t] != theirs[t].to(ours.dtype)
        wrong = ((forced.decide() != fired) | (different & same)) & ~forced.rounds()
        wrong |= (different & same) & (fired == (ours[t] != 0))  # sent as another value
        if fault is None and bool(wrong.any()):
            fault = forced.fault(t, wrong, fired)
        first = different & same
        if bool(first.any()):
            farthest = max(farthest, float((forced.u - mapping.fires_at)[first].abs().max()) / unit)
        differing += int(different.sum())
        same &= ~different
        forced.reset(fired)
    return Compared(current.numel(), fired_in_all, differing, farthest, fault, same)
