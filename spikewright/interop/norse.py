"""Neurons and containers of Norse 1.1."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.frames import StateSequential, over_time
from spikewright.interop.mapping import Library, Mapping, Refused, is_trained, one_number, positive
from spikewright.interop.surrogates import Surrogate, firing, read_surrogate
from spikewright.neurons import IF, LIF
from spikewright.surrogate import Sigmoid, Triangle

SURROGATES: dict[str, Callable[[float], list[Callable[[], Surrogate]]]] = {
    "tanh": lambda alpha: [lambda: Sigmoid(2 * alpha)],
    "triangle": lambda alpha: [Triangle],
}
"""Surrogates of ours that have the slope of theirs, by its name, for some alpha."""


def read_box(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFBoxCell`: leak 1 - dt tau_mem_inv, input scaled by dt tau_mem_inv."""
    p = cell.p
    _check(cell, "lif_box_feed_forward_step", p)
    rate = one_number(cell.dt * p.tau_mem_inv, "tau_mem_inv")
    if not 0 < rate <= 1:
        raise Refused(
            f"dt tau_mem_inv is {rate:g}, so that its leak 1 - {rate:g} is no number from 0 to 1",
            "Use a time constant of at least dt",
        )
    leak, reset, limit = (one_number(getattr(p, name), name) for name in ("v_leak", "v_reset", "v_th"))
    fires_at = positive(limit - leak, f"v_th={limit:g}, v_leak={leak:g}")
    surrogate, strict = _surrogate(cell, p, dtype)
    method = getattr(p.reset_method, "__name__", "")
    if p.reset_method.__module__ != "norse.torch.functional.reset" or method not in ("reset_value", "reset_subtract"):
        raise Refused(
            f"its reset_method {method or p.reset_method} is not one of the library's, and its equation is not known",
            "Use reset_value or reset_subtract",
        )
    fires = firing(fires_at, strict, surrogate, dtype)
    options: dict[str, Any] = {"reset": "zero"}
    if method == "reset_subtract":
        options = {"rest": fires["threshold"] - positive(limit, "v_th")}
    elif reset != leak:
        raise Refused(
            f"it resets to {reset:g} and leaks to {leak:g} (v_reset, v_leak), and here a potential is reset to where "
            "it rests",
            "Use v_reset = v_leak",
        )
    shown = f"LIFBoxCell(dt tau_mem_inv={rate:g}, v_th={limit:g}, v_leak={leak:g}, {method})"
    here = LIF(1 / rate, gain=rate, detach_reset=False, **fires, **options)
    return Mapping(shown, here, fires_at, strict, leak, states=1)


def read_iaf(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `IAFCell` and `IAF`, which reset to v_reset and start there."""
    p = cell.p
    _check(cell, "iaf_feed_forward_step", p)
    reset, limit = one_number(p.v_reset, "v_reset"), one_number(p.v_th, "v_th")
    fires_at = positive(limit - reset, f"v_th={limit:g}, v_reset={reset:g}")
    surrogate, strict = _surrogate(cell, p, dtype)
    here = IF(reset="zero", detach_reset=False, **firing(fires_at, strict, surrogate, dtype))
    shown = f"{type(cell).__name__}(v_th={limit:g}, v_reset={reset:g})"
    return Mapping(shown, here, fires_at, strict, reset, states=1)


def _check(cell: Any, activation: str, p: Any) -> None:
    function = cell.activation
    own = getattr(function, "__module__", "").startswith("norse.torch.functional") and function.__name__ == activation
    if not own or cell.activation_sparse is not None or cell.state_fallback.__name__ != "initial_state":
        raise Refused(
            "its activation, or the state it starts from, is another function than the library gives it",
            "Use the cell as the library makes it",
        )
    if getattr(cell.state_fallback, "__func__", None) is not type(cell).initial_state:
        raise Refused("it starts from another state than the library gives it", "Use the cell as the library makes it")
    if getattr(cell, "record_states", False):
        raise Refused("it returns the states of all steps (record_states=True)", "Use record_states=False")
    trained = [name for name in p._fields if is_trained(getattr(p, name))]
    if trained:
        raise Refused(
            f"its {trained[0]} is trained, and here it is a constant",
            f"Give {trained[0]} as a tensor that is not a parameter",
        )


def _surrogate(cell: Any, p: Any, dtype: torch.dtype) -> tuple[Surrogate, bool]:
    function: Any = sys.modules[cell.activation.__module__].threshold  # which the model has imported
    alpha = one_number(p.alpha, "alpha")

    def fire(x: Tensor) -> Tensor:
        return function(x, p.method, p.alpha)

    return read_surrogate(
        fire, None, SURROGATES.get(p.method, lambda alpha: [])(alpha), f"{p.method}(alpha={alpha:g})", dtype
    )


def plain(module: Any, axis: int | None) -> nn.Module | None:
    """Return the plain module for a container."""
    kind = type(module)
    if kind.__module__ == "norse.torch.module.lift" and kind.__name__ == "Lift":
        return over_time(module.lifted_module, axis)
    if kind.__module__ == "norse.torch.module.sequential" and kind.__name__ == "SequentialState":
        if module.return_hidden:
            raise Refused("it returns what every layer sends (return_hidden=True)", "Use return_hidden=False")
        if module.forward_state_hooks:
            raise Refused("hooks see the states of its layers", "Call remove_forward_state_hooks()")
        return StateSequential(*module)
    return None


_CURRENT = (
    "its current has a leak of its own, as that of most Norse neurons, and there is no such neuron here yet",
    "The nearest exact one is LIFBoxCell",
)
_RECURRENT = (
    "it feeds its own spikes back one step later, and here that is a module beside the neuron",
    "Write it with spikewright.Feedback, a layer and LIFBoxCell",
)
_MEMBRANE = (
    "it sends its potential and never fires, and there is no such neuron here yet",
    "Leave it out: a readout without potential is a plain layer, whose output a loss averages over time",
)
_NONE = ("its equations have no equal here", "The nearest exact one is LIFBoxCell")
MISSING: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("LIF", "LIFCell", "LIFFeedForwardCell"), _CURRENT),
    **dict.fromkeys(("LIFRecurrent", "LIFRecurrentCell", "LSNNRecurrent", "LSNNRecurrentCell"), _RECURRENT),
    **dict.fromkeys(("LI", "LICell", "LIBox", "LIBoxCell", "LILinearCell"), _MEMBRANE),
    "LSNN": ("its threshold adapts to its spikes, and there is no such neuron here yet", _NONE[1]),
    "LSNNCell": ("its threshold adapts to its spikes, and there is no such neuron here yet", _NONE[1]),
    "RecurrentSequential": _RECURRENT,
}

LIBRARY = Library(
    name="Norse",
    packages=("norse.torch.module",),
    neurons={"LIFBoxCell": read_box, "IAFCell": read_iaf, "IAF": read_iaf},
    missing=MISSING,
    bases=frozenset(
        "SNN SNNCell SNNRecurrent SNNRecurrentCell CobaLIFCell LIFCorrelation RegularizationCell ExpFilter LConv2d "
        "TemporalReceptiveField ConstantCurrentLIFEncoder PoissonEncoder SignedPoissonEncoder SpikeLatencyEncoder "
        "SpikeLatencyLIFEncoder PopulationEncoder SpikesToTimesDecoder".split()
    ),
    known=frozenset("activation activation_sparse state_fallback p dt record_states".split()),
    form=lambda cell: "time" if type(cell).__name__ == "IAF" else "step",
    rest=lambda cell: None,
    plain=plain,
    given_state=True,
)
