"""Neurons of snnTorch 1.0."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spikewright.interop.mapping import Library, Mapping, Refused, Trained, is_trained, one_number, positive
from spikewright.interop.surrogates import Surrogate, firing, read_surrogate
from spikewright.neurons import IF, LIF, Neuron
from spikewright.surrogate import ATan, Sigmoid

SURROGATES: dict[str, Callable[[dict[str, Any]], list[Callable[[], Surrogate]]]] = {
    "sigmoid": lambda given: [lambda: Sigmoid(given["slope"])],
    "atan": lambda given: [lambda: ATan(given["alpha"])],
}
"""Surrogates of ours that have the slope of theirs, by the name of its function, for some of its arguments."""
_RESETS = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
_MEMBRANE = (
    "it never resets its potential (reset_mechanism='none'), as a neuron whose potential is read, and there is no such "
    "neuron here yet",
    'Use reset_mechanism="subtract" or "zero"; a readout without potential is a plain layer',
)


def read_leaky(leaky: Any, dtype: torch.dtype) -> Mapping:
    """Read `Leaky`."""
    reset = _reset(leaky)
    beta, learned = _beta(leaky, reset)
    if not leaky.reset_delay and int(leaky.reset_mechanism_val) != ["subtract", "zero", "none"].index(reset):
        raise Refused(
            f"its reset mechanism was changed to {leaky.reset_mechanism!r} after it was made with {reset!r}, and its "
            "two resets would now differ",
            "Make it anew with the mechanism that is meant",
        )
    if reset == "subtract" and not leaky.reset_delay:
        raise Refused(
            "with reset_delay=False and subtraction a neuron above twice its threshold sends the next spike a step "
            "late, because it then has been reset already, and no neuron here does",
            'Use reset_delay=True (the default), or reset_mechanism="zero"',
        )
    threshold = _common(leaky)
    surrogate, strict = _surrogate(leaky, dtype)
    fires = firing(threshold, strict, surrogate, dtype)
    factor = _factor(leaky)
    shown = "tensor" if isinstance(beta, Tensor) else f"{beta:g}"
    theirs = f"Leaky(beta={shown}, threshold={threshold:g}, reset_mechanism={reset!r}, reset_delay={leaky.reset_delay}"
    theirs += ")" if factor == 1 else f", graded_spikes_factor={factor:g})"
    options: dict[str, Any] = {"amplitude": factor, **fires}
    options |= {"detach_reset": bool(leaky.reset_delay), "reset": reset}
    if reset == "subtract":
        several = isinstance(beta, Tensor)
        if several or beta == 0:
            raise Refused(
                "its reset comes a step late, which is a soft reset of threshold/beta, and with "
                + ("one beta per neuron that is one number each" if several else "beta=0 there is no such number"),
                'Use reset_mechanism="zero", or one beta above 0',
            )
        options["rest"] = fires["threshold"] - threshold / beta
    if isinstance(beta, float) and beta == 1:
        return Mapping(theirs, IF(**options), threshold, strict, states=_states(leaky))
    neuron = LIF(1 / (1 - beta), learn_tau=learned, **options)
    trained = ()
    if learned:
        neuron.leak_logit.data = torch.logit(leaky.beta.detach().flatten()[:1].to(dtype)).reshape(
            neuron.leak_logit.shape
        )
        trained = (Trained("leak_logit", "beta", torch.sigmoid, "beta = sigmoid(leak_logit)"),)
    return Mapping(theirs, neuron, threshold, strict, states=_states(leaky), trained=trained)


def read_lapicque(cell: Any, dtype: torch.dtype) -> Mapping:
    """Read `Lapicque`: leak 1 - time_step/(R C), input scaled by time_step/C."""
    reset = _reset(cell)
    if reset == "zero":
        raise Refused(
            "with reset_mechanism='zero' it also loses the input of the step after a spike, so that a constant input "
            "that fires Leaky at every step fires it at every second, and no neuron here does",
            'Use Leaky(reset_mechanism="zero"), or reset_mechanism="subtract"',
        )
    if is_trained(cell.beta):
        raise Refused(
            "it has learn_beta=True, but computes with R and C, so that its beta has no gradient",
            "Use learn_beta=False, or Leaky",
        )
    r, c, step = cell.R, cell.C, cell.time_step
    leak, gain = one_number(1 - step / (r * c), "leak"), one_number(r * (1 / (r * c)) * step, "input scale")
    threshold = _common(cell)
    surrogate, strict = _surrogate(cell, dtype)
    fires = firing(threshold, strict, surrogate, dtype)
    theirs = f"Lapicque(R={one_number(r, 'R'):g}, C={one_number(c, 'C'):g}, time_step={one_number(step, 'step'):g})"
    if not 0 < leak < 1:
        raise Refused(
            f"its leak 1 - time_step/(R C) is {leak:g}, and its reset, a step late, is a soft reset of threshold/leak",
            "Choose R C above time_step",
        )
    here: Neuron = LIF(1 / (1 - leak), gain=gain, rest=fires["threshold"] - threshold / leak, **fires)
    return Mapping(theirs, here, threshold, strict, states=_states(cell))


def _reset(cell: Any) -> str:
    """Return the reset that a neuron was made with: attributes that are set later do not change it."""
    function = cell.state_function
    own = inspect.getattr_static(type(cell), getattr(function, "__name__", ""), None)
    if getattr(function, "__func__", None) is not own or function.__name__ not in _RESETS:
        raise Refused(
            "its state_function was replaced by another one, and the equations of that are not known",
            "Use the neuron as the library makes it",
        )
    reset = _RESETS[function.__name__]
    if reset == "none":
        raise Refused(*_MEMBRANE)
    return reset


def _beta(leaky: Any, reset: str) -> tuple[float | Tensor, bool]:
    beta = leaky.beta.detach().clamp(0, 1)
    if is_trained(leaky.beta):
        if reset == "subtract":
            raise Refused(
                "it trains beta (learn_beta=True) and resets by subtraction a step late, which is a soft reset of "
                "threshold/beta: an amount that would have to change with beta, and here is constant",
                'Use learn_beta=False, or reset_mechanism="zero"',
            )
        value = one_number(leaky.beta, "trained beta")
        if not 0 < value < 1:
            raise Refused(
                f"it trains beta and starts at {value:g}, and here a trained leak is between 0 and 1, both excluded",
                "Start with such a beta",
            )
        return value, True
    if beta.numel() == 1 or bool((beta == beta.flatten()[0]).all()):
        return beta.flatten()[0].item(), False
    if bool((beta == 1).any()):
        raise Refused("one beta of several is 1, which is no finite time constant", "Use betas below 1, or one beta")
    return beta if beta.dim() > 1 else beta.unsqueeze(0), False


def _common(cell: Any) -> float:
    """Read what every neuron of the library has."""
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
    for name in ("threshold", "graded_spikes_factor"):
        if is_trained(getattr(cell, name)):
            raise Refused(
                f"it trains its {name} (learn_{name}=True), which is a constant here",
                f"Use learn_{name}=False; a norm in front of the neuron has the same effect as a trained threshold",
            )
    threshold = one_number(cell.threshold, "threshold")
    return positive(threshold, f"threshold={threshold:g}")


def _factor(cell: Any) -> float:
    factor = one_number(cell.graded_spikes_factor, "graded_spikes_factor")
    if factor == 0:
        raise Refused("its spikes are sent as 0 (graded_spikes_factor=0)", "Use a factor other than 0")
    return factor


def _surrogate(cell: Any, dtype: torch.dtype) -> tuple[Surrogate, bool]:
    fire: Any = cell.spike_grad
    name = getattr(fire, "__qualname__", type(fire).__name__).removesuffix(".<locals>.inner")
    given: dict[str, Any] = {}
    if inspect.isfunction(fire) and fire.__module__ == "snntorch.surrogate":
        given = dict(inspect.getclosurevars(fire).nonlocals)
    known = SURROGATES.get(name) if given else None
    shown = f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"
    return read_surrogate(fire, None, [] if known is None else known(given), shown, dtype)


def _states(cell: Any) -> int:
    return 1 if cell.output or not cell.init_hidden else 0


def _rest(cell: Any) -> None:
    for name in ("mem", "syn", "syn_exc", "syn_inh", "spk"):
        if isinstance(cell._buffers.get(name), Tensor):
            cell._buffers[name] = torch.zeros(0)


_CURRENT = (
    "its current has a leak of its own, and there is no such neuron here yet",
    "The nearest exact one is Leaky(beta)",
)
_RECURRENT = (
    "it feeds its own spikes back one step later, and here that is a module beside the neuron",
    "Write it with spikewright.Feedback and Leaky",
)
_NONE = ("its equations have no equal here", "The nearest exact one is Leaky(beta)")
MISSING: dict[str, tuple[str, str]] = {
    "Synaptic": _CURRENT,
    "Alpha": _CURRENT,
    "RLeaky": _RECURRENT,
    "RSynaptic": _RECURRENT,
    "DeltaLeaky": _NONE,
    "LinearLeaky": _NONE,
    "LeakyParallel": _NONE,
    "StateLeaky": _NONE,
    "SLSTM": _NONE,
    "SConv2dLSTM": _NONE,
}

LIBRARY = Library(
    name="snnTorch",
    packages=("snntorch._neurons",),
    neurons={"Leaky": read_leaky, "Lapicque": read_lapicque},
    missing=MISSING,
    bases=frozenset({"SpikingNeuron", "LIF", "LeakyParallel", "StateLeaky", "LinearLeaky"}),
    known=frozenset(
        "spike_grad init_hidden inhibition output surrogate_disable _reset_mechanism state_quant state_function "
        "reset_delay reset threshold graded_spikes_factor reset_mechanism_val beta mem time_step R C".split()
    ),
    form=lambda cell: "step",
    rest=_rest,
    plain=lambda module, axis: None,
    double=False,
)
