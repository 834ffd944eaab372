"""Neurons of Norse 1.1, one by one."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.mapping import (
    Mapping,
    Refused,
    all_positive,
    is_trained,
    one_number,
    positive,
    several_numbers,
    shown,
)
from spikewright.interop.recurrence import delayed, one_step_late
from spikewright.interop.surrogates import Surrogate, firing, read_surrogate
from spikewright.layers import Recurrent
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF
from spikewright.surrogate import Erf, FastSigmoid, Sigmoid, Triangle

SURROGATES: dict[str, Callable[[float], list[Callable[[], Surrogate]]]] = {
    "super": lambda alpha: [lambda: FastSigmoid(1.0, factor=2.0)],
    "tanh": lambda alpha: [lambda: Sigmoid(2 * alpha, factor=2 / alpha)],
    "triangle": lambda alpha: [lambda: Triangle(factor=alpha)],
    "heavi_erfc": lambda alpha: [lambda: Erf(alpha, factor=2 / alpha)],
}
"""Surrogates of ours that have the slope of theirs, by its name."""


def read_box(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFBoxCell`: leak 1 - dt tau_mem_inv, input scaled by dt tau_mem_inv."""
    p = cell.p
    _check(cell, "lif_box_feed_forward_step", p)
    rate = _rate(cell, "tau_mem_inv")
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
        raise _two_rests(reset, leak)
    told = f"LIFBoxCell(dt tau_mem_inv={shown(rate)}, v_th={limit:g}, v_leak={leak:g}, {method})"
    here = LIF(1 / rate, gain=rate, detach_reset=False, **fires, **options)
    return Mapping(told, here, fires_at, strict, leak, states=1)


def read_iaf(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `IAFCell` and `IAF`, which reset to v_reset and start there."""
    p = cell.p
    _check(cell, "iaf_feed_forward_step", p)
    reset, limit = one_number(p.v_reset, "v_reset"), one_number(p.v_th, "v_th")
    fires_at = positive(limit - reset, f"v_th={limit:g}, v_reset={reset:g}")
    surrogate, strict = _surrogate(cell, p, dtype)
    here = IF(reset="zero", detach_reset=False, **firing(fires_at, strict, surrogate, dtype))
    told = f"{type(cell).__name__}(v_th={limit:g}, v_reset={reset:g})"
    return Mapping(told, here, fires_at, strict, reset, states=1)


def read_lif(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFCell` and `LIF`: the input enters a current of leak 1 - dt tau_syn_inv, and at once the potential."""
    _check(cell, "lif_feed_forward_step", cell.p)
    return _current_based(cell, dtype, detached=False)


def read_recurrent(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFRecurrentCell` and `LIFRecurrent`: weights of input and of spikes are in the cell."""
    _check(cell, "lif_step", cell.p)
    found = _current_based(cell, dtype, detached=True)
    front, back = _linear(cell, "input_weights"), _linear(cell, "recurrent_weights")

    def joined(x: Tensor, spikes: Tensor) -> Tensor:
        last = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])
        return front(x) + back(last.to(x.dtype))

    layer = nn.Sequential(front, Recurrent(found.neuron, back, first="nothing"))
    return replace(found, layer=layer, joined=joined, alone=_alone)


def read_lsnn(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LSNNCell` and `LSNN`, whose potential takes the current of the step before: ALIF behind a delay of one."""
    p = cell.p
    _check(cell, "lsnn_feed_forward_step", p)
    rate, decay, recovery = (_rate(cell, name) for name in ("tau_mem_inv", "tau_syn_inv", "tau_adapt_inv"))
    limit, leak, told = _levels(p)
    jump = several_numbers(p.beta, "beta")
    surrogate, strict = _surrogate(cell, p, dtype)
    here = ALIF(
        1 / rate,
        1 / recovery,
        (1 - recovery) * jump,  # theirs decays before it is compared
        threshold=limit,
        reset="zero",
        detach_reset=False,
        surrogate=surrogate,
        strict=strict,
        tau_syn=1 / decay,
        current_gain=rate,
    )
    rates = f"dt tau_mem_inv={shown(rate)}, dt tau_syn_inv={shown(decay)}, dt tau_adapt_inv={shown(recovery)}"
    name = f"{type(cell).__name__}({rates}, beta={shown(jump)}, {told})"
    late = nn.Sequential(one_step_late(), here)
    remark = "its input comes a step late, so that rules that learn from each step by itself send no error before it"
    return Mapping(
        name, here, limit, strict, leak, states=1, layer=late, joined=lambda x, spikes: delayed(x), remark=remark
    )


def read_li(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LICell` and `LI`, whose output is the potential."""
    _check(cell, "li_feed_forward_step", cell.p)
    rate, decay = _rate(cell, "tau_mem_inv"), _rate(cell, "tau_syn_inv")
    neuron = LI(1 / rate, tau_syn=1 / decay, current_gain=rate)
    return _integrator(cell, neuron, f"dt tau_mem_inv={shown(rate)}, dt tau_syn_inv={shown(decay)}")


def read_li_box(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIBoxCell`, whose output is the potential."""
    _check(cell, "li_box_feed_forward_step", cell.p)
    rate = _rate(cell, "tau_mem_inv")
    return _integrator(cell, LI(1 / rate, gain=rate), f"dt tau_mem_inv={shown(rate)}")


def _integrator(cell: Any, neuron: LI, told: str) -> Mapping:
    rest = one_number(cell.p.v_leak, "v_leak")
    if rest != 0:
        raise Refused(
            f"it sends its potential, which rests at v_leak={rest:g}, and here such a potential rests at 0",
            "Use v_leak=0, and add the number behind it",
        )
    return Mapping(f"{type(cell).__name__}({told})", neuron, 1.0, states=1)


def _current_based(cell: Any, dtype: torch.dtype, detached: bool) -> Mapping:
    rate, decay = _rate(cell, "tau_mem_inv"), _rate(cell, "tau_syn_inv")
    fires_at, leak, told = _levels(cell.p)
    surrogate, strict = _surrogate(cell, cell.p, dtype)
    here = CUBALIF(
        1 / rate,
        1 / decay,
        threshold=fires_at,
        reset="zero",
        detach_reset=detached,
        surrogate=surrogate,
        strict=strict,
        current_gain=rate,
    )
    rates = f"dt tau_mem_inv={shown(rate)}, dt tau_syn_inv={shown(decay)}"
    return Mapping(f"{type(cell).__name__}({rates}, {told})", here, fires_at, strict, leak, states=1)


def _levels(p: Any) -> tuple[float | Tensor, float, str]:
    """Return the threshold above where the potential rests, where that is, and both in words."""
    leak, reset = one_number(p.v_leak, "v_leak"), one_number(p.v_reset, "v_reset")
    if reset != leak:
        raise _two_rests(reset, leak)
    limit = several_numbers(p.v_th, "v_th")
    told = f"v_th={shown(limit)}, v_leak={leak:g}"
    return all_positive(limit - leak, told), leak, told


def _two_rests(reset: float, leak: float) -> Refused:
    return Refused(
        f"it resets to {reset:g} and leaks to {leak:g} (v_reset, v_leak), and here a potential is reset to where it "
        "rests",
        "Use v_reset = v_leak",
    )


def _rate(cell: Any, name: str) -> float | Tensor:
    """Return dt times an inverse time constant: 1 less the share that is left after a step."""
    rate = several_numbers(cell.dt * getattr(cell.p, name), name)
    low, high = (rate.min().item(), rate.max().item()) if isinstance(rate, Tensor) else (rate, rate)
    if not 0 < low <= high <= 1:
        bad = low if not low > 0 else high
        raise Refused(
            f"dt {name} is {bad:g}, so that its leak 1 - {bad:g} is no number from 0 to 1",
            "Use a time constant of at least dt",
        )
    return rate


def _linear(cell: Any, name: str) -> nn.Linear:
    """Return a layer with a weight of a cell, the same object."""
    weight = getattr(cell, name)
    if not isinstance(weight, nn.Parameter):
        raise Refused(
            f"its {name} are a tensor and no parameter, so that they do not move with the model and are not saved",
            f"Give {name} as an nn.Parameter",
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight
    return layer


def _alone(cell: Any) -> None:
    """Put the identity in place of the weights of the input, and nothing in place of those of the spikes."""
    back = cell.recurrent_weights.detach()
    cell.input_weights = nn.Parameter(torch.eye(len(back)).to(back))
    cell.recurrent_weights = nn.Parameter(torch.zeros_like(back))


def _check(cell: Any, activation: str, p: Any) -> None:
    function, sparse = cell.activation, cell.activation_sparse
    own = getattr(function, "__module__", "").startswith("norse.torch.functional") and function.__name__ == activation
    if sparse is not None:
        own &= getattr(sparse, "__module__", "").startswith("norse.torch.functional")
        own &= getattr(sparse, "__name__", "") == f"{activation}_sparse"
    if not own or cell.state_fallback.__name__ != "initial_state":
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

    candidates = SURROGATES.get(p.method, lambda alpha: [])(alpha)
    return read_surrogate(fire, None, candidates, f"{p.method}(alpha={alpha:g})", dtype)
