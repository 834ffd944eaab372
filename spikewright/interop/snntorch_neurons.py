"""Neurons of snnTorch 1.0, one by one."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.mapping import (
    Mapping,
    Refused,
    Trained,
    all_positive,
    is_trained,
    one_number,
    several_numbers,
    shown,
)
from spikewright.interop.recurrence import Nothing, Scale, joined
from spikewright.interop.surrogates import Surrogate, read_surrogate
from spikewright.layers import Recurrent
from spikewright.neurons import CUBALIF, IF, LI, LIF, Neuron
from spikewright.surrogate import ATan, FastSigmoid, Rectangle, Sigmoid

SURROGATES: dict[str, Callable[[dict[str, Any]], list[Callable[[], Surrogate]]]] = {
    "sigmoid": lambda given: [lambda: Sigmoid(given["slope"])],
    "atan": lambda given: [lambda: ATan(given["alpha"])],
    "fast_sigmoid": lambda given: [lambda: FastSigmoid(given["slope"], factor=2 / given["slope"])],
    "straight_through_estimator": lambda given: [lambda: Rectangle(2.0**20, factor=2.0**20)],
}
"""Surrogates of ours that have the slope of theirs, by the name of its function, for some of its arguments."""
_RESETS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
Make = Callable[..., Neuron]


def read_leaky(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `Leaky`: decay beta, and a reset that comes a step late unless it is told otherwise."""
    return _read(cell, dtype, _decay(cell, "beta", dtype), lossless=True)


def read_lapicque(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `Lapicque`: leak 1 - time_step/(R C), input scaled by time_step/C."""
    if is_trained(cell.beta):
        raise Refused(
            "it has learn_beta=True, but computes with R and C, so that its beta has no gradient",
            "Use learn_beta=False, or Leaky",
        )
    r, c, step = cell.R, cell.C, cell.time_step
    leak, gain = one_number(1 - step / (r * c), "leak"), one_number(r * (1 / (r * c)) * step, "input scale")
    if not 0 < leak < 1:
        raise Refused(
            f"its leak 1 - time_step/(R C) is {leak:g}, and here a leak is between 0 and 1",
            "Choose R C above time_step",
        )
    told = f"R={one_number(r, 'R'):g}, C={one_number(c, 'C'):g}, time_step={one_number(step, 'step'):g}"
    return _read(cell, dtype, (leak, (), told), gain=gain, loses=True)


def read_synaptic(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `Synaptic`: decay alpha of the current, which is added whole to the potential, and decay beta of that."""
    leak, trained, told = _decay(cell, "beta", dtype)
    alpha, more, said = _decay(cell, "alpha", dtype)
    for value, name in ((leak, "beta"), (alpha, "alpha")):
        if bool((torch.as_tensor(value) == 1).any()):
            raise Refused(f"its {name} is 1, which is no finite time constant", f"Use {name} below 1")
    tau_syn = 1 / (1 - alpha)
    decays = leak, (*trained, *more), f"{said}, {told}"
    return _read(cell, dtype, decays, loses=True, tau_syn=tau_syn, learn_tau_syn=bool(more))


def read_recurrent(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `RLeaky`, whose own spikes come back through a layer, with its bias at the first step too."""
    if _reset(cell) == "none":
        raise Refused(
            "its spikes come back, and it never resets its potential (reset_mechanism='none'), and no neuron here "
            "fires without a reset",
            'Use reset_mechanism="subtract"',
        )
    found, back = _read(cell, dtype, _decay(cell, "beta", dtype), lossless=True, loses=True), cell.recurrent
    if type(back).__name__ == "RecurrentOneToOne":
        back = Scale(back.V)
    elif type(back) not in (nn.Linear, nn.Conv2d):
        raise Refused(
            f"its recurrent was replaced by {type(back).__name__}, of which nothing is known here",
            "Use the layer that the library makes",
        )
    layer = Recurrent(found.neuron, back, first="bias")
    return replace(found, layer=layer, joined=partial(joined, back), alone=_alone)


def _alone(cell: Any) -> None:
    cell.recurrent = Nothing()


def _read(
    cell: Any,
    dtype: torch.dtype,
    decay: tuple[float | Tensor, tuple[Trained, ...], str],
    *,
    lossless: bool = False,
    loses: bool = False,
    **options: Any,
) -> Mapping:
    """Read a neuron from its decay and what all have.

    Args:
        cell: The neuron.
        dtype: Of the run.
        decay: Decay of the potential, what is trained, and both as text.
        lossless: True if there is a neuron here for a decay of 1.
        loses: True if its delayed hard reset takes the next input, too.
        options: Further arguments of ours.
    """
    leak, trained, told = decay
    reset, late = _reset(cell), bool(getattr(cell, "reset_delay", True))
    _check_reset(cell, reset, late, loses, leak)
    threshold, more = _threshold(cell, reset, dtype)
    told += f", threshold={shown(threshold)}, reset_mechanism={reset!r}"
    told += f", reset_delay={late}" if hasattr(cell, "reset_delay") else ""
    learned = any(each.theirs == "beta" for each in trained)
    whole = not isinstance(leak, Tensor) and leak == 1
    options |= {"tau": 1 / (1 - leak)} if not whole else {}
    options |= {"learn_tau": True} if learned else {}
    if reset == "none":
        return _silent(cell, dtype, options, trained, f"{type(cell).__name__}({told})")
    surrogate, strict = _surrogate(cell, dtype)
    factor = _factor(cell)
    told += "" if factor == 1 else f", graded_spikes_factor={factor:g}"
    kind = CUBALIF if "tau_syn" in options else IF if lossless and whole else LIF
    neuron = kind(
        threshold=threshold, learn_threshold=bool(more), reset="late" if reset == "subtract" else "zero",
        detach_reset=late, strict=strict, surrogate=surrogate, amplitude=factor, **options,
    )  # fmt: skip
    trained = (*trained, *more)
    _start(neuron, cell, trained, dtype)
    return Mapping(
        f"{type(cell).__name__}({told})",
        neuron,
        threshold,
        strict,
        states=len(_returns(cell)) - 1,
        trained=trained,
        returns=_returns(cell),
        potential="before reset" if late else "after reset",
    )


def _silent(
    cell: Any, dtype: torch.dtype, options: dict[str, Any], trained: tuple[Trained, ...], theirs: str
) -> Mapping:
    """Return what a neuron is that never resets: its potential, which its spikes leave as it is."""
    if _returns(cell) == ("spikes",):
        raise Refused(
            "it never resets its potential (reset_mechanism='none') and returns its spikes alone, and no neuron here "
            "fires without a reset",
            'Use output=True and its potential, or reset_mechanism="subtract" or "zero"',
        )
    options = {"tau": None} | options  # no leak
    if options.pop("learn_tau_syn", False):
        raise Refused(
            "it trains alpha, and here the current of a neuron that does not fire has a constant decay",
            "Use learn_alpha=False",
        )
    neuron = LI(**options)
    _start(neuron, cell, trained, dtype)
    returns = _returns(cell)
    told = "never reset: its potential is sent, and its spikes are not"
    return Mapping(theirs, neuron, math.inf, states=len(returns) - 1, trained=trained, returns=returns, remark=told)


def _check_reset(cell: Any, reset: str, late: bool, loses: bool, leak: float | Tensor) -> None:
    """Raise `Refused` if no neuron here is reset so."""
    if not late and int(cell.reset_mechanism_val) != ["subtract", "zero", "none"].index(reset):
        raise Refused(
            f"its reset mechanism was changed to {cell.reset_mechanism!r} after it was made with {reset!r}, and its "
            "two resets would now differ",
            "Make it anew with the mechanism that is meant",
        )
    if reset == "subtract" and not late:
        raise Refused(
            "with reset_delay=False and subtraction a neuron above twice its threshold sends the next spike a step "
            "late, because it then has been reset already, and no neuron here does",
            'Use reset_delay=True (the default), or reset_mechanism="zero"',
        )
    if reset == "zero" and late and loses:
        raise Refused(
            "with reset_mechanism='zero' it also loses the input of the step after a spike, so that a constant input "
            "that fires Leaky at every step fires it at every second, and no neuron here does",
            'Use reset_mechanism="subtract"'
            + (", or reset_delay=False" if hasattr(cell, "reset_delay") else ', or Leaky(reset_mechanism="zero")'),
        )
    if reset == "subtract" and bool((torch.as_tensor(leak) == 0).any()):
        raise Refused(
            "its reset comes a step late, which is a soft reset of threshold/beta, and with beta=0 there is no such "
            "number",
            'Use reset_mechanism="zero", or betas above 0',
        )


def _reset(cell: Any) -> str:
    """Return the reset that a neuron was made with: attributes that are set later do not change it."""
    function = cell.state_function
    own = inspect.getattr_static(type(cell), getattr(function, "__name__", ""), None)
    if getattr(function, "__func__", None) is not own or function.__name__ not in _RESETS:
        raise Refused(
            "its state_function was replaced by another one, and the equations of that are not known",
            "Use the neuron as the library makes it",
        )
    return _RESETS[function.__name__]


def _decay(cell: Any, name: str, dtype: torch.dtype) -> tuple[float | Tensor, tuple[Trained, ...], str]:
    """Return a decay, what is trained of it, and theirs as text."""
    given = getattr(cell, name)
    value = several_numbers(given.detach().clamp(0, 1), name)
    told = f"{name}={'tensor' if isinstance(value, Tensor) else f'{value:g}'}"
    if not is_trained(given):
        if isinstance(value, Tensor) and bool((value == 1).any()):
            raise Refused(f"one {name} of several is 1, which is no finite time constant", f"Use a {name} below 1")
        return value, (), told
    wide = given.detach().double()
    if not bool(((wide > 0) & (wide < 1)).all()):
        raise Refused(
            f"it trains {name} and starts at {wide.flatten().tolist()[0]:g}, and here a trained leak is between 0 and "
            "1, both excluded",
            f"Start with such a {name}",
        )
    logit = "leak_logit" if name == "beta" else "current_leak_logit"
    return _spread(wide), (Trained(logit, name, torch.sigmoid, f"{name} = sigmoid({logit})"),), f"{told}, trained"


def _spread(value: Tensor) -> float | Tensor:
    """Return a constant that is trained: a number, or a tensor that broadcasts as theirs does."""
    if value.numel() == 1:
        return value.item()
    return value.unsqueeze(0) if value.dim() == 1 else value


def _threshold(cell: Any, reset: str, dtype: torch.dtype) -> tuple[float | Tensor, tuple[Trained, ...]]:
    """Return the threshold and what is trained of it, after checks of what every neuron has."""
    if cell.inhibition:
        raise Refused(
            "with inhibition=True only the neuron with the highest potential of a layer may fire, and here neurons of "
            "a layer do not see each other",
            "Use inhibition=False",
        )
    if cell.state_quant:
        raise Refused(
            "it quantises its potential (state_quant) at every step, and potentials here are not quantised",
            "Use state_quant=False",
        )
    if is_trained(cell.graded_spikes_factor):
        raise Refused(
            "it trains its graded_spikes_factor (learn_graded_spikes_factor=True), which is a constant here",
            "Use learn_graded_spikes_factor=False; the layer behind the neuron has the same effect",
        )
    learned = is_trained(cell.threshold)
    value = cell.threshold.detach().double()
    threshold = _spread(value) if learned else several_numbers(cell.threshold.to(dtype), "threshold")
    all_positive(threshold, f"threshold={value.min().item():g}")
    if not learned or reset == "none":
        return threshold, ()
    return threshold, (Trained("threshold", "threshold", lambda v: v + 0, "threshold"),)


def _start(neuron: Neuron, cell: Any, trained: tuple[Trained, ...], dtype: torch.dtype) -> None:
    """Give trained constants of ours the values of theirs in the precision of the run."""
    for each in trained:
        value, place = getattr(cell, each.theirs).detach().to(dtype), neuron.get_parameter(each.ours)
        place.data = (value if each.ours == "threshold" else torch.logit(value)).reshape(place.shape).clone()


def _factor(cell: Any) -> float:
    factor = one_number(cell.graded_spikes_factor, "graded_spikes_factor")
    if factor == 0:
        raise Refused("its spikes are sent as 0 (graded_spikes_factor=0)", "Use a factor other than 0")
    return factor


def _surrogate(cell: Any, dtype: torch.dtype) -> tuple[Surrogate, bool]:
    fire: Any = cell.spike_grad
    name = getattr(fire, "__qualname__", type(fire).__name__).removesuffix(".<locals>.inner")
    own = inspect.isfunction(fire) and fire.__module__ == "snntorch.surrogate"
    given = dict(inspect.getclosurevars(fire).nonlocals) if own else {}
    known = SURROGATES.get(name) if own else None
    text = f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"
    return read_surrogate(fire, None, [] if known is None else known(given), text, dtype)


def _returns(cell: Any) -> tuple[str, ...]:
    """Return what a call returns."""
    if not cell.output and cell.init_hidden:
        return ("spikes",)
    return ("spikes", "current", "potential") if type(cell).__name__ == "Synaptic" else ("spikes", "potential")
