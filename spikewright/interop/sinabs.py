"""Neurons and layers of sinabs 3.1."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.frames import Unsqueeze, over_time
from spikewright.interop.mapping import Library, Mapping, Refused, is_trained, one_number, positive
from spikewright.interop.surrogates import read_surrogate
from spikewright.neurons import IF, LIF


def read_lif(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIF` and `LIFSqueeze`: leak exp(-1/tau_mem)."""
    name = "alpha_mem" if layer.train_alphas else "tau_mem"
    if is_trained(getattr(layer, name)):
        raise Refused(
            f"it trains {name}, as the library does unless told otherwise, and here a trained time constant does not "
            "scale the input",
            f"Keep it as it is, layer.{name}.requires_grad_(False)",
        )
    leak = one_number(layer.alpha_mem_calculated, name)
    gain = one_number(1 - layer.alpha_mem_calculated, name) if layer.norm_input else 1.0
    if not 0 <= leak < 1:
        raise Refused(f"its leak is {leak:g}, and a leak is at least 0 and below 1", "Use a positive tau_mem, or IAF")
    shown = f"tau_mem={one_number(layer.tau_mem_calculated, 'tau_mem'):g}, norm_input={layer.norm_input}"
    return _mapping(layer, dtype, partial(LIF, 1 / (1 - leak), gain=gain), shown)


def read_iaf(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `IAF` and `IAFSqueeze`."""
    return _mapping(layer, dtype, IF, "")


def _mapping(layer: Any, dtype: torch.dtype, neuron: Any, shown: str) -> Mapping:
    if layer.alpha_syn_calculated is not None:
        raise Refused(
            "its current has a leak of its own (tau_syn), and there is no such neuron here yet",
            "Use tau_syn=None",
        )
    _check_spikes(layer.spike_fn)
    if layer.min_v_mem is not None:
        raise Refused(
            f"its potential has a lower bound (min_v_mem={one_number(layer.min_v_mem, 'min_v_mem'):g}), and there is "
            "no such neuron here yet",
            "Use min_v_mem=None",
        )
    if layer.record_states:
        raise Refused(
            "it records its states (record_states=True), which nobody would fill here", "Use record_states=False"
        )
    if is_trained(layer.spike_threshold):
        raise Refused("it trains its threshold, which is a constant here", "spike_threshold.requires_grad_(False)")
    threshold = positive(one_number(layer.spike_threshold, "spike_threshold"), "spike_threshold")
    options, reset = _reset(layer.reset_fn, threshold)
    given: Any = layer.surrogate_grad_fn
    name = getattr(given, "__qualname__", None) or repr(given)
    limit = layer.spike_threshold.detach().to(dtype)

    def fire(x: Tensor) -> Tensor:
        return layer.spike_fn.apply(x + 0, torch.zeros_like(x[0]), given)

    def slope(x: Tensor) -> Tensor:
        return given(x + limit.to(x), limit.to(x))

    surrogate, strict = read_surrogate(fire, slope, [], name, dtype)
    kind = type(layer).__name__
    theirs = f"{kind}({shown}{', ' if shown else ''}spike_threshold={threshold:g}, spike_fn=SingleSpike, {reset})"
    return Mapping(theirs, neuron(threshold=threshold, surrogate=surrogate, **options), threshold, strict)


def _check_spikes(function: Any) -> None:
    kind = function if isinstance(function, type) else type(function)
    if function is None:
        raise Refused(
            "it sends its potential and never fires (spike_fn=None), and there is no such neuron here yet",
            "Use spike_fn=SingleSpike; a readout without potential is a plain layer",
        )
    if kind.__module__ == "sinabs.activation.spike_generation" and kind.__name__ == "SingleSpike":
        return
    if kind.__name__ in ("MultiSpike", "MaxSpike"):
        raise Refused(
            f"it sends several spikes in a step (spike_fn={kind.__name__}"
            f"{', the default of the library' if kind.__name__ == 'MultiSpike' else ''}), and there is no such neuron "
            "here yet",
            "Use spike_fn=SingleSpike",
        )
    raise Refused(f"its spike_fn {kind.__name__} is not one of the library's", "Use spike_fn=SingleSpike")


def _reset(function: Any, threshold: float) -> tuple[dict[str, Any], str]:
    kind = type(function)
    own = kind.__module__ == "sinabs.activation.reset_mechanism"
    if own and kind.__name__ == "MembraneSubtract":
        amount = threshold if function.subtract_value is None else one_number(function.subtract_value, "subtract_value")
        if not amount > 0:
            raise Refused(
                f"its reset takes {amount:g} off the potential, and here that amount is above 0",
                "Use MembraneSubtract()",
            )
        return {"rest": threshold - amount, "detach_reset": False}, f"reset_fn={function}"
    if own and kind.__name__ == "MembraneReset":
        if one_number(function.reset_value, "reset_value") != 0:
            raise Refused(
                f"its {function} adds the value to the potential of every neuron at every step, spike or not, and no "
                "neuron here does",
                "Use MembraneReset(), or MembraneSubtract()",
            )
        return {"reset": "zero", "detach_reset": True}, f"reset_fn={function}"
    raise Refused(
        f"its reset_fn {getattr(function, '__qualname__', kind.__name__)} is not one of the library's, and its "
        "equation is not known",
        "Use MembraneSubtract() or MembraneReset()",
    )


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for one that folds or unfolds time."""
    kind = type(module)
    if kind.__module__ != "sinabs.layers.reshape":
        return None
    if kind.__name__ == "Repeat":
        return over_time(module.module, axis)
    if kind.__name__ == "FlattenTime":
        return nn.Identity() if axis is None else nn.Flatten(0, 1)
    if kind.__name__ == "UnflattenTime":
        return nn.Identity() if axis is None else Unsqueeze(axis)
    return None


_RECURRENT = (
    "it feeds its own spikes back one step later, and here that is a module beside the neuron",
    "Write it with spikewright.Feedback and the neuron alone",
)
MISSING: dict[str, tuple[str, str]] = {
    "ALIF": (
        "its threshold adapts to its spikes, and there is no such neuron here yet",
        "The nearest exact one is LIF",
    ),
    "ALIFRecurrent": _RECURRENT,
    "LIFRecurrent": _RECURRENT,
    "LIFRecurrentSqueeze": _RECURRENT,
    "IAFRecurrent": _RECURRENT,
    "ExpLeak": (
        "it sends its potential and never fires, and there is no such neuron here yet",
        "Leave it out: a readout without potential is a plain layer, whose output a loss averages over time",
    ),
    "ExpLeakSqueeze": (
        "it sends its potential and never fires, and there is no such neuron here yet",
        "Leave it out: a readout without potential is a plain layer, whose output a loss averages over time",
    ),
}


def _form(layer: Any) -> str:
    return "folded" if hasattr(layer, "squeeze_forward") else "batch"


def _rest(layer: Any) -> None:
    for name in list(layer._buffers):
        layer._buffers[name] = torch.zeros(0)


LIBRARY = Library(
    name="sinabs",
    packages=("sinabs.layers",),
    neurons={"LIF": read_lif, "LIFSqueeze": read_lif, "IAF": read_iaf, "IAFSqueeze": read_iaf},
    missing=MISSING,
    bases=frozenset({"StatefulLayer", "SpikingMaxPooling2dLayer", "Img2SpikeLayer", "Sig2SpikeLayer"}),
    known=frozenset(
        "spike_fn reset_fn surrogate_grad_fn train_alphas norm_input record_states recordings firing_rate v_mem i_syn "
        "tau_mem tau_syn alpha_mem alpha_syn spike_threshold min_v_mem batch_size num_timesteps out_shape".split()
    ),
    form=_form,
    rest=_rest,
    plain=plain,
    double=False,
)
