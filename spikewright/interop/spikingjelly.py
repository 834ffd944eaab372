"""Neurons and layers of SpikingJelly 2.0."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.frames import as_plain, over_time
from spikewright.interop.mapping import Library, Mapping, Refused, Trained, is_trained, positive
from spikewright.interop.surrogates import Surrogate, firing, read_surrogate
from spikewright.neurons import IF, LIF
from spikewright.surrogate import ATan, Sigmoid, Triangle

SURROGATES: dict[str, Callable[[Any], list[Callable[[], Surrogate]]]] = {
    "Sigmoid": lambda fire: [lambda: Sigmoid(fire.alpha)],
    "ATan": lambda fire: [lambda: ATan(fire.alpha)],
    "PiecewiseQuadratic": lambda fire: [Triangle],
}
"""Surrogates of ours that have the slope of theirs, by its name, for some of its arguments."""


def read_lif(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFNode` and `SimpleLIFNode`."""
    gain = 1 / node.tau if node.decay_input else 1.0
    shown = f"tau={node.tau:g}, decay_input={node.decay_input}"
    return _mapping(node, dtype, partial(LIF, node.tau, gain=gain), shown)


def read_if(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `IFNode` and `SimpleIFNode`."""
    return _mapping(node, dtype, IF, "")


def read_parametric(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `ParametricLIFNode`, whose leak is 1 - sigmoid(w)."""
    kept = torch.sigmoid(node.w.detach().to(dtype)).item()
    shown = f"tau={1 / kept:g}, decay_input={node.decay_input}"
    if not is_trained(node.w):
        gain = kept if node.decay_input else 1.0
        return _mapping(node, dtype, partial(LIF, 1 / kept, gain=gain), shown)
    if node.decay_input:
        raise Refused(
            "it divides its input by the time constant that it trains, and here a trained time constant has a gain of "
            "its own, so that the gradient of w would lack a part",
            "Use ParametricLIFNode(decay_input=False), or keep w as it is, w.requires_grad_(False)",
        )
    found = _mapping(node, dtype, partial(LIF, 1 / kept, learn_tau=True), shown)
    with torch.no_grad():
        found.neuron.leak_logit.data = -node.w.detach().to(dtype).clone()  # type: ignore[union-attr]
    back = Trained("leak_logit", "w", torch.neg, "w = -leak_logit")
    return Mapping(found.theirs, found.neuron, found.fires_at, found.strict, found.rests_at, trained=(back,))


def _mapping(node: Any, dtype: torch.dtype, neuron: Callable[..., Any], shown: str) -> Mapping:
    start = node._memories_rv["v"]
    rest = 0.0 if node.v_reset is None else float(node.v_reset)
    reset = f"v_threshold={node.v_threshold:g}, v_reset={node.v_reset}, detach_reset={node.detach_reset}"
    theirs = f"{type(node).__name__}({', '.join(filter(None, [shown, reset]))})"
    if isinstance(start, Tensor) or start != rest:
        raise Refused(
            f"its potential starts at {start} and is reset to {node.v_reset}, and here it starts where it rests",
            f"Leave the start at {rest:g} (set_reset_value)",
        )
    if getattr(node, "store_v_seq", False):
        raise Refused(
            "it stores its potentials (store_v_seq=True), which nobody would fill here",
            "Set store_v_seq=False; observers of Network.run see currents and spikes",
        )
    if getattr(node, "_neuron_precision", None) is not None:
        raise Refused(
            f"it computes in a precision of its own ({node._neuron_precision})", "Leave the precision of its neurons"
        )
    fire = node.surrogate_function
    if not getattr(fire, "spiking", True):
        raise Refused(
            "its surrogate is in the mode without spikes (spiking=False), so that it sends a smooth value",
            "Call surrogate_function.set_spiking_mode(True)",
        )
    candidates = SURROGATES.get(type(fire).__name__, lambda fire: [])(fire)
    surrogate, strict = read_surrogate(fire, None, candidates, repr(fire), dtype)
    fires_at = positive(node.v_threshold - rest, reset)
    here = neuron(
        reset="subtract" if node.v_reset is None else "zero",
        detach_reset=node.detach_reset,
        **firing(fires_at, strict, surrogate, dtype),
    )
    return Mapping(theirs, here, fires_at, strict, rest)


_WRAPPED = frozenset(
    "BatchNorm1d BatchNorm2d BatchNorm3d Conv1d Conv2d Conv3d Upsample ConvTranspose1d ConvTranspose2d "
    "ConvTranspose3d GroupNorm MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d "
    "AdaptiveAvgPool2d AdaptiveAvgPool3d Linear Flatten".split()
)
"""Layers that are torch's with a step mode."""
_OVER_TIME = frozenset({"MultiStepContainer", "SeqToANNContainer", "StepModeContainer"})


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for a layer or a container, around which there is a time axis or none."""
    kind, found = type(module).__name__, None
    if not type(module).__module__.startswith("spikingjelly.activation_based.layer"):
        return None
    if kind in _WRAPPED:
        found = as_plain(module, {"_step_mode"})
    elif kind in ("Dropout", "Dropout2d"):
        found = getattr(nn, kind)(module.p).train(module.training)
    elif kind in _OVER_TIME:
        return over_time(nn.Sequential(*module), axis)
    if found is None:
        return None
    return over_time(found, axis if module.step_mode == "m" else None)


_RECURRENT = (
    "it feeds its own output back one step later, and here that is a module beside the neuron",
    "Write it with spikewright.Feedback and the neuron alone",
)
_NO_EQUAL = "its equations have no equal here yet"
MISSING: dict[str, tuple[str, str]] = {
    "CUBALIFNode": (
        "its current has a leak of its own, and there is no such neuron here yet",
        "The nearest exact one is LIFNode",
    ),
    "NonSpikingLIFNode": (
        "it sends its potential and never fires, and there is no such neuron here yet",
        "Leave it out: a readout without potential is a plain layer, whose output a loss averages over time",
    ),
    "NonSpikingIFNode": (
        "it sends its potential and never fires, and there is no such neuron here yet",
        "Leave it out: a readout without potential is a plain layer, whose output a loss sums over time",
    ),
    "HalfThresholdIFNode": (
        "its potential starts at half the threshold, and here a potential starts at rest",
        "Use IFNode(v_reset=None)",
    ),
    "LinearRecurrentContainer": _RECURRENT,
    "ElementWiseRecurrentContainer": _RECURRENT,
}


def _form(node: Any) -> str:
    return "time" if node.step_mode == "m" else "step"


LIBRARY = Library(
    name="SpikingJelly",
    packages=("spikingjelly.activation_based",),
    neurons={
        "LIFNode": read_lif,
        "SimpleLIFNode": read_lif,
        "IFNode": read_if,
        "SimpleIFNode": read_if,
        "ParametricLIFNode": read_parametric,
    },
    missing=MISSING,
    bases=frozenset({"MemoryModule", "MultiStepModule", "SpikingRNNBase", "SpikingRNNCellBase"}),
    known=frozenset(
        "_memories _memories_rv _step_mode v_threshold v_reset detach_reset _neuron_precision _store_v_seq v_seq "
        "lava_s_cale tau decay_input w".split()
    ),
    form=_form,
    rest=lambda node: node.reset(),  # type: ignore[operator]
    plain=plain,
)
