"""Recurrent layers: what comes back from the spikes is compared too, with the gradients of its weights."""

import torch
from torch import Tensor

from spikewright.errors import ConversionError
from spikewright.interop.copies import clone
from spikewright.interop.free_run import Seen, compare_layer
from spikewright.interop.mapping import Mapping
from spikewright.interop.probes import SAMPLES, chained, unit_of
from spikewright.interop.reading import Found
from spikewright.interop.recorder import alone
from spikewright.interop.reference import Trace
from spikewright.network import Network

STEPS = 24


def probed_layer(each: Found, mapping: Mapping, trace: Trace) -> float:
    """Compare a recurrent layer with what it is here, in free runs, and return how far gradients are apart.

    Spikes are compared until one differs by rounding; the gradients of the input, of the weights and of the trained
    constants are compared over the samples in which none does.

    Args:
        each: The layer.
        mapping: What it is in the dtype of the run.
        trace: Run of the other library's model.

    Raises:
        ConversionError: They differ, and not for rounding; or it does not fire, so that nothing comes back.
    """
    dtype = torch.float64 if each.library.double else trace.inputs[each.name].dtype
    layer = clone(each.module).to("cpu", dtype)
    found = each.read(layer, dtype)
    if found.complete is not None:
        found.complete(layer)
    x = _inputs(each.name, found, trace).to(dtype)
    given, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(STEPS, SAMPLES, *trace.spikes[each.name].shape[2:], generator=_source(), dtype=torch.float64)
    found.placed.to("cpu", dtype)
    with torch.enable_grad():
        net = Network(torch.nn.Sequential(found.placed))
        net.run(x[:2])  # which finds the wiring, before anyone looks
        seen = Seen({id(found.neuron): each.name}, net, STEPS)
        theirs, ours = alone(each, layer, given), net.run(here, observers=[seen])[0]
        clean = _compared(each.name, found, x, theirs.detach(), seen.whole())
        used = weights.to(dtype) * clean.view(1, -1, *[1] * (theirs.dim() - 2))
        shared = [
            p for p in layer.parameters() if p.requires_grad and id(p) in {id(q) for q in found.placed.parameters()}
        ]
        own = [layer.get_parameter(constant.theirs) for constant in found.trained]
        kept = [found.neuron.get_parameter(constant.ours) for constant in found.trained]
        one = torch.autograd.grad((used * ours).sum(), [here, *shared, *kept])
        other = torch.autograd.grad((used * theirs).sum(), [given, *shared, *own])
    many = len(shared) + 1
    apart = max(_apart(a, b) for a, b in zip(one[:many], other[:many]))
    constants = zip(found.trained, one[many:], other[many:])
    apart = max([apart, *(chained(c, found.neuron, a, b) for c, a, b in constants)])
    if not apart <= (1e-5 if dtype == torch.float64 else 1e-3):
        raise ConversionError(
            f"convert: layer '{each.name}', {mapping.theirs}, was taken for a recurrent layer, but on probe inputs "
            f"the gradients of its input, of its weights or of its constants differ by {apart:.2g} of the largest: this is "
            "not rounding. Is the gradient of what comes back another one than the library makes?"
        )
    return apart


def _source() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _inputs(name: str, mapping: Mapping, trace: Trace) -> Tensor:
    """Return an input that makes the layer fire: one that grows from sample to sample."""
    feature = trace.inputs[name].shape[2:]
    normal = torch.randn(STEPS, SAMPLES, *feature, generator=_source(), dtype=torch.float64)
    strength = 2.0 ** torch.arange(SAMPLES).view(1, -1, *[1] * len(feature)) / 2
    same = feature == trace.currents[name].shape[2:]
    return (0.3 + normal) * strength * (unit_of(mapping, feature) if same else _unit(name, mapping, trace))


def _unit(name: str, mapping: Mapping, trace: Trace) -> float:
    return float(torch.as_tensor(unit_of(mapping, trace.currents[name].shape[2:])).max())


def _compared(name: str, mapping: Mapping, x: Tensor, theirs: Tensor, seen: Seen) -> Tensor:
    """Return the samples in which no spike differs, bool `[batch]`."""
    with torch.no_grad():
        current = mapping.current(x, theirs).detach()
    clean = torch.ones(x.shape[:2], dtype=torch.bool)
    clean = compare_layer(name, mapping, current, seen.currents[name], theirs, seen.spikes[name], clean, "probe")
    if not bool((theirs[:-1, clean[-1]] != 0).any()):
        raise ConversionError(
            f"convert: layer '{name}', {mapping.theirs}, does not fire on the probe inputs, so that nothing comes back "
            "from its spikes and nothing can be said of its recurrence. Are its weights very small or all negative?"
        )
    return clean[-1]


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1.0))
