"""Is a difference between two neurons rounding, or a fault?

The potential is computed once more in double precision, with the spikes of the other library put in, so that one
difference does not bring about others.  Within its rounding error of a threshold, a difference is rounding.  Anything
else is a fault, and so is a difference at a tie to which potentials came without any rounding.  The output of a neuron
that does not fire is its potential, and has to be within twice that error.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.interop.forced import Forced
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
        sent: What theirs sent there, of a neuron that sends several spikes or its potential; `None` for others.
    """

    step: int
    place: tuple[int, ...]
    fires: bool
    u: float
    threshold: float
    sent: float | None = None

    def __str__(self) -> str:
        theirs = "fires" if self.fires else "does not fire"
        if self.sent is not None:
            theirs = f"sends {self.sent:.9g}"
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
        smooth: Neurons that were never at their lower bound, where a slope jumps, bool `[batch, *feature]`.
    """

    spikes: int
    fired: int
    differing: int
    farthest: float
    fault: Fault | None
    same: Tensor
    smooth: Tensor


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
    for t, step in enumerate(current):
        sent = forced.sends(theirs[t])
        fired_in_all += int((theirs[t] != 0).sum())
        forced.charge(step)
        different = forced.differs(ours[t], theirs[t])
        first = different & same
        wrong = first if forced.analog else ((forced.decide() != sent) | first) & ~forced.rounds()
        wrong = wrong | (first & (sent == forced.sends(ours[t])))  # sent as another value
        if fault is None and bool(wrong.any()):
            fault = fault_at(forced, t, wrong, theirs[t])
        if bool(first.any()):
            unit = torch.finfo(current.dtype).eps * forced.nearest.abs()
            farthest = max(farthest, float(((forced.u - forced.nearest).abs() / unit)[first].max()))
        differing += int(different.sum())
        same &= ~different
        forced.reset(sent)
    return Compared(current.numel(), fired_in_all, differing, farthest, fault, same, forced.smooth)


def fault_at(forced: Forced, step: int, wrong: Tensor, theirs: Tensor) -> Fault:
    """Return the first place of `wrong` as a fault.

    Args:
        forced: The neuron at that step, before its reset.
        step: The step.
        wrong: Where it is wrong.
        theirs: What theirs sent.
    """
    place = tuple(torch.nonzero(wrong)[0].tolist())
    value = theirs[place].item()
    limit = forced.nearest.expand_as(forced.u)[place].item()
    plain = not forced.analog and not forced.equations.counts
    return Fault(step, place, value != 0, forced.u[place].item(), limit, None if plain else value)
