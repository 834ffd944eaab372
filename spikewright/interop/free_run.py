"""The free run of the converted network beside that of the model, spike by spike."""

import math
from collections.abc import Mapping as ByName
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ConversionError
from spikewright.interop.forced import Forced
from spikewright.interop.mapping import Mapping
from spikewright.interop.reference import Trace
from spikewright.interop.rounding import fault_at
from spikewright.network import Network
from spikewright.synapses.operations import Operation

CURRENT = 1e-5
"""Largest difference of a current that is rounding, relative to the largest current of the layer (float32)."""


@dataclass
class Seen:
    """Currents and spikes of every neuron layer in a run of the converted network, `[time, batch, *feature]`.

    Args:
        names: Name of the layer in the model, by the identity of our neuron.
        net: The network.
        steps: Number of steps.
    """

    names: ByName[int, str]
    net: Network
    steps: int
    currents: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    spikes: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Keep what a neuron received and sent, of all steps or, in a network with recurrence, of the next one."""
        name = self.names[id(self.net.sites.temporal[site])]
        for kept, rows in ((self.currents, current), (self.spikes, spikes)):
            rows = rows.detach().clone()
            kept[name] = torch.cat([kept[name], rows]) if name in kept else rows

    def potential(self, site: str, potential: Tensor) -> None:
        """Potentials are seen in the output, and in what they bring about."""

    def whole(self) -> "Seen":
        """Return the same with one axis for time and one for the batch."""
        for kept in (self.currents, self.spikes):
            for name, rows in kept.items():
                kept[name] = rows.unflatten(0, (self.steps, -1))
        return self

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Layers are seen through what they send to neurons."""


def run_here(net: Network, names: ByName[int, str], x: Tensor) -> tuple[Seen, Tensor | None]:
    """Return what the neurons of the converted network receive and send, and its output."""
    seen = Seen(names, net, len(x))
    with torch.no_grad():
        output, _ = net.run(x.clone(), observers=[seen])  # which the forward may change in place
    return seen.whole(), output


def compare_runs(trace: Trace, seen: Seen, output: Any, mappings: ByName[str, Mapping], mode: str) -> dict[str, int]:
    """Return how many spikes of every layer differ in free runs, all of them explained by rounding.

    A sample counts as long as no spike of it has differed: its currents have to agree then, and the first spike that
    differs has to be within the rounding error of the threshold.

    Args:
        trace: Run of the other library's model.
        seen: Run of the converted network.
        output: Output of the latter.
        mappings: What each neuron is, by the name of its layer.
        mode: Name of the kind of run, for messages.

    Raises:
        ConversionError: They differ, and not for rounding.
    """
    first = next(iter(trace.spikes.values()))
    clean = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)  # of every step and sample, so far
    differing: dict[str, int] = {}
    for name, spikes in trace.spikes.items():
        ours = seen.spikes[name].to(spikes.dtype)
        if ours.shape != spikes.shape:
            raise ConversionError(
                f"convert: layer '{name}' has the shape {list(spikes.shape)} in the model and {list(ours.shape)} here, "
                "so that the converted model computes something else. Give step=lambda model, x: ..., a function of "
                "the model and the input of one step."
            )
        clean = compare_layer(
            name, mappings[name], trace.currents[name], seen.currents[name], spikes, ours, clean, mode
        )
        differing[name] = int((ours != spikes).sum()) if mappings[name].neuron.spiking else 0
    _compare_output(trace, output, clean, mode)
    return differing


def compare_layer(
    name: str,
    mapping: Mapping,
    theirs_in: Tensor,
    ours_in: Tensor,
    theirs: Tensor,
    ours: Tensor,
    clean: Tensor,
    mode: str,
) -> Tensor:
    """Return in which samples and steps no spike has differed so far, bool `[time, batch]`, after one layer more.

    Args:
        name: Name of the layer.
        mapping: What it is here.
        theirs_in: Current of theirs, `[time, batch, *feature]`.
        ours_in: That of ours.
        theirs: Output of theirs.
        ours: Output of ours.
        clean: The same for the layers in front.
        mode: Name of the kind of run, for messages.

    Raises:
        ConversionError: They differ, and not for rounding.
    """
    clean = clean.clone()
    size = float(theirs_in.abs().max())
    allowed = CURRENT * size if theirs_in.dtype == torch.float32 else 1e-12 * size
    forced = Forced(mapping, theirs_in)
    for t in range(len(theirs)):
        off = (ours_in[t] - theirs_in[t]).abs().double()
        far = off.flatten(1).amax(1) > allowed
        wrong = far & clean[t]
        if bool(wrong.any()):
            sample = int(wrong.nonzero()[0])
            raise ConversionError(
                f"convert: the current of layer '{name}' differs from the model's by {float(off[sample].max()):.3g} "
                f"(of {size:.3g}) at step {t}, sample {sample}, in the {mode} run, before any spike differs. "
                "So a layer in front of it, or the way the forward uses time, is not what it was. Give step=lambda "
                "model, x: ..., a function of the model and the input of one step; or report the layer in front."
            )
        forced.charge(theirs_in[t], off)
        apart = forced.differs(ours[t], theirs[t])
        rounds = torch.zeros_like(apart) if forced.analog else forced.rounds()
        unexplained = apart & ~rounds & clean[t].view(-1, *[1] * (apart.dim() - 1))
        if bool(unexplained.any()):
            raise ConversionError(
                f"convert: layer '{name}' ({mapping.theirs}) differs in the {mode} run, "
                f"{fault_at(forced, t, unexplained, theirs[t])}, which is not rounding."
            )
        if not forced.analog:
            clean[t:] &= ~apart.flatten(1).any(1)
        forced.reset(forced.sends(theirs[t]))
    return clean


def _compare_output(trace: Trace, output: Any, clean: Tensor, mode: str) -> None:
    theirs, ours = outputs_of(trace), tensors_of(output)
    shapes = [[list(each.shape) for each in side] for side in (theirs, ours)]
    worst = 0.0 if len(theirs) == len(ours) else math.inf
    for one, other in zip(theirs, ours):
        worst = max(worst, _apart(one.detach(), other.detach(), clean))
    if worst > 1e-4:
        raise ConversionError(
            f"convert: the neurons agree in the {mode} run, but not the output: theirs has the shapes {shapes[0]}, "
            f"ours {shapes[1]}"
            + (f", and they are {worst:.3g} apart" if worst < math.inf else "")
            + ". What the forward "
            "does behind the last neurons is not done step by step. Give step=lambda model, x: ..., a function of the "
            "model and the input of one step that returns the output of that step."
        )


def _apart(theirs: Tensor, ours: Tensor, clean: Tensor) -> float:
    """Return the relative difference of two outputs: step by step, or of one that theirs returns for the sequence."""
    pairs = [(theirs, ours, clean)]
    if theirs.shape != ours.shape:
        whole = clean.all(0)
        pairs = [(theirs, each, whole) for each in (ours.mean(0), ours.sum(0), ours[-1]) if each.shape == theirs.shape]
    scale, worst = float(theirs.abs().max()) or 1.0, math.inf
    for one, other, valid in pairs:
        off = (one - other).abs()[valid]
        worst = min(worst, float(off.max()) / scale if off.numel() else 0.0)
    return worst


def outputs_of(trace: Trace) -> list[Tensor]:
    """Return the outputs of the other library's run, `[time, batch, ...]` where they have both."""
    steps, batch = next(iter(trace.spikes.values())).shape[:2]
    if trace.form == "step":
        found = [torch.stack(parts) for parts in zip(*trace.outputs)]
        return [y.squeeze(1) if y.dim() > 3 and y.shape[1:3] == (1, batch) else y for y in found]
    found = trace.outputs[0]
    if trace.form == "time" and 1 < steps == len(found) and all(y.shape[:1] == (batch,) for y in found):
        return [torch.stack(found)]  # a list of one output per step
    return [_time_first(y, trace.form, steps, batch) for y in found]


def _time_first(y: Tensor, form: str, steps: int, batch: int) -> Tensor:
    if form == "folded" and y.shape[0] == steps * batch:
        return y.unflatten(0, (batch, steps)).transpose(0, 1)
    if form in ("batch", "folded") and y.dim() > 1 and y.shape[:2] == (batch, steps):
        return y.transpose(0, 1)
    return y


def tensors_of(y: Any) -> list[Tensor]:
    """Return the tensors of an output of the converted network in their order."""
    if isinstance(y, Tensor):
        return [y]
    parts = y.values() if isinstance(y, dict) else y if isinstance(y, tuple | list) else ()
    return [tensor for each in parts for tensor in tensors_of(each)]
