"""Potentials that neurons return beside their spikes, compared beyond rounding."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spikewright.interop.forced import Forced
from spikewright.interop.mapping import Mapping
from spikewright.interop.rounding import Compared, Fault
from spikewright.neurons import Neuron


def scanned(neuron: Neuron, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what our neuron sends for a current `[time, batch, *feature]`, and its potential if it returns one."""
    return pair(neuron.scan(x, {}, True)[0])


def pair(y: Any) -> tuple[Tensor, Tensor | None]:
    """Return an output and the potential beside it, or `None`."""
    return y if isinstance(y, tuple) else (y, None)


def weighted(weights: Tensor, sent: Tensor, potential: Tensor | None) -> Tensor:
    """Return the sum of an output with weights `[time, batch, *feature]`, and of a potential with others."""
    total = (weights.to(sent.dtype) * sent).sum()
    return total if potential is None else total + (weights.roll(1, 0).to(potential.dtype) * potential).sum()


def with_potentials(
    compared: Compared, mapping: Mapping, current: Tensor, spikes: Tensor, theirs: Tensor, ours: Tensor
) -> Compared:
    """Return a comparison of spikes with the first fault of the potentials, if there is none of the spikes.

    Args:
        compared: Comparison of the spikes.
        mapping: The neuron.
        current: Its whole current, `[time, batch, *feature]`.
        spikes: Spikes of theirs, in the same shape.
        theirs: Potentials of theirs.
        ours: Potentials of ours.
    """
    if compared.fault is not None:
        return compared
    forced = Forced(mapping, current)
    for t, step in enumerate(current):
        forced.charge(step)
        error = forced.error
        forced.reset(forced.sends(spikes[t]))
        allowed = 4 * torch.maximum(error, forced.error) + 8 * forced.epsilon * forced.u.abs()
        wrong = ~((ours[t].double() - theirs[t].double()).abs() <= allowed) & compared.same
        if bool(wrong.any()):
            place = tuple(torch.nonzero(wrong)[0].tolist())
            return replace(compared, fault=Apart(t, place, False, theirs[t][place].item(), ours[t][place].item()))
    return compared


class Apart(Fault):
    """A potential of ours, `threshold`, that is not that of theirs, `u`."""

    def __str__(self) -> str:
        return f"at step {self.step}, neuron {list(self.place)}, theirs has the potential {self.u:.9g}"
