"""What is compared neuron by neuron: on the model's own currents, and on the probe currents."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ConversionError
from spikewright.interop.conversion import FEW, ConversionRow
from spikewright.interop.loops import probed_layer
from spikewright.interop.mapping import Mapping
from spikewright.interop.potentials import scanned, with_potentials
from spikewright.interop.probes import TOLERANCE, Probe, probed
from spikewright.interop.reading import Found
from spikewright.interop.reference import Trace
from spikewright.interop.rounding import Compared, compare
from spikewright.neurons import Neuron


def own_currents(mappings: dict[str, Mapping], trace: Trace) -> dict[str, Compared]:
    """Compare every neuron on the current that the model gave its own, by the name of the layer.

    Args:
        mappings: What each neuron is here.
        trace: Run of the other library's model.

    Raises:
        ConversionError: A spike differs, and not for rounding.
    """
    found: dict[str, Compared] = {}
    for name, mapping in mappings.items():
        current, theirs = trace.currents[name], trace.spikes[name]
        with torch.no_grad():
            ours, emitted = scanned(mapping.neuron, current)
        found[name] = compare(mapping, current, theirs, ours)
        if emitted is not None:
            found[name] = with_potentials(found[name], mapping, current, theirs, trace.potentials[name], emitted)
        _raise_fault(name, mapping, found[name], f"on x, given the model's own current, in {name_of(current.dtype)}")
    return found


def _raise_fault(name: str, mapping: Mapping, compared: Compared, where: str) -> None:
    if compared.fault is not None:
        raise ConversionError(
            f"convert: layer '{name}', {mapping.theirs}, was taken for {written(mapping.neuron)}, but {where}, "
            f"{compared.fault}, and ours does otherwise: this is not rounding. The versions that are known are "
            "SpikingJelly 2.0, snnTorch 1.0, sinabs 3.1 and Norse 1.1; use the layer as one of them makes it."
        )


def row_of(each: Found, mapping: Mapping, own: Compared, free: int, trace: Trace) -> ConversionRow:
    """Compare a neuron on the probe currents, and return all that was found about it.

    Args:
        each: The neuron.
        mapping: What it is here.
        own: Comparison on the model's own current.
        free: Number of spikes that differ in the free run.
        trace: Run of the other library's model.

    Raises:
        ConversionError: A spike or a gradient differs, and not for rounding.
    """
    current = trace.currents[each.name]
    shape = current.shape[2:] if mapping.shaped else torch.Size([64])
    reasons: list[str] = []
    reasons += [mapping.remark] if mapping.remark else []
    loop = probed_layer(each, mapping, trace) if mapping.layer is not None else 0.0
    probes = {dtype: probed(each, dtype, shape) for dtype in {current.dtype: None, torch.float64: None}}
    for dtype, probe in probes.items():
        where = f"on the probe current '{probe.current}', in {name_of(dtype)}"
        _raise_fault(each.name, probe.mapping, probe.spikes, where)
        _check_gradient(each.name, probe, where, dtype)
        if probe.spikes.differing:
            reasons.append(f"{probe.spikes.differing} probe spikes differ by rounding ({name_of(dtype)})")
        if probe.without:
            reasons.append(f"its own gradient is NaN or infinite for {probe.without} probed neurons ({name_of(dtype)})")
    if own.differing:
        reasons.insert(0, f"rounding: u is {own.farthest:.1f} units in the last place from thr")
    elif free:
        reasons.insert(0, "free run: rounding of a current, or a difference in front")
    proven = own.fired > 0 and own.fired >= FEW * own.spikes
    if not proven:
        reasons.insert(0, f"not proven on x: it fires {own.fired} times")
    return ConversionRow(
        each.name,
        mapping.theirs,
        mapping.written(written(mapping.neuron)),
        own.spikes,
        own.fired,
        own.differing,
        free,
        sum(probe.spikes.spikes for probe in probes.values()),
        max(probes[torch.float64].gradient, loop),
        proven,
        "; ".join(reasons),
    )


def _check_gradient(name: str, probe: Probe, where: str, dtype: torch.dtype) -> None:
    mapping = probe.mapping
    allowed = TOLERANCE if dtype == torch.float64 else 1e-3
    worst = max(probe.gradient, probe.trained)
    if not worst <= allowed:
        of = "input" if probe.gradient >= probe.trained else ", ".join(each.theirs for each in mapping.trained)
        raise ConversionError(
            f"convert: layer '{name}', {mapping.theirs}, was taken for {written(mapping.neuron)}, but {where}, the "
            f"gradient of its {of} differs by {worst:.2g} of the largest (allowed {allowed:g}): this is not rounding. "
            "Is the surrogate, or the gradient of its reset, another one than the library makes?"
        )


def written(neuron: Neuron) -> str:
    """Return a neuron as code, without what is the default."""
    kind = type(neuron)
    parts: list[str] = []
    parameters = signature(kind).parameters
    for name in sorted(parameters, key=lambda name: (name == "surrogate", name not in ("tau", "learn_tau"))):
        parameter = parameters[name]
        value = _argument(neuron, name)
        if name in _ALWAYS or _text(value) != _text(parameter.default):
            parts.append(f"{name}={_text(value, exact=name == 'threshold')}")
    return f"{kind.__name__}({', '.join(parts)})"


_ALWAYS = frozenset({"tau", "threshold", "surrogate"})


def _argument(neuron: Any, name: str) -> object:
    """Return the value of an argument from which a neuron was made."""
    if name.startswith("learn_"):
        kind = {"tau": "leak_logit", "tau_syn": "current_leak_logit"}.get(name.removeprefix("learn_"), name[6:])
        return kind in neuron._parameters
    if name == "gain" and getattr(neuron, "_tied", False):
        return "1/tau"
    if name in ("tau", "tau_syn", "tau_adaptation"):
        if name == "tau_syn" and not getattr(neuron, "has_current", True):
            return None
        leak = {"tau": "leak", "tau_syn": "current_leak", "tau_adaptation": "adaptation_leak"}[name]
        leak = getattr(neuron, leak)
        return None if not isinstance(leak, Tensor) and leak == 1 else 1 / (1 - leak)
    return getattr(neuron, name, False)


def _text(value: object, exact: bool = False) -> str:
    if isinstance(value, Tensor):
        return _text(value.item(), exact) if value.numel() == 1 else "tensor"
    if not isinstance(value, float):
        return repr(value)
    short = f"{value:.6g}"
    return repr(value) if exact and float(short) != value else short


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype, without the package."""
    return str(dtype).removeprefix("torch.")
