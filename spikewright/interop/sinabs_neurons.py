"""Neurons of sinabs 3.1, one by one."""

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
from spikewright.interop.sinabs_spikes import read_reset, read_spikes, read_surrogate_of
from spikewright.layers import Recurrent
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF

_SYNAPTIC = "Use requires_grad_(False) on it, or tau_syn=None"


def read_lif(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIF` and `LIFSqueeze`: leak exp(-1/tau_mem)."""
    if layer.spike_fn is None:
        return read_leak(layer, dtype)
    tau, trained, told = _membrane(layer, dtype)
    neuron: Callable[..., Any]
    if layer.alpha_syn_calculated is None:
        gain = "1/tau" if trained and layer.norm_input else 1 - leak_of(layer) if layer.norm_input else 1.0
        neuron = partial(LIF, tau, gain=gain, learn_tau=bool(trained))
    else:
        if trained and layer.norm_input:
            raise Refused(
                f"it trains {trained[0].theirs}, as the library does unless told otherwise, which scales its synaptic "
                "current too (norm_input=True), and here the scale of a synaptic current is a constant",
                f"Use norm_input=False, or keep it as it is, {trained[0].theirs}.requires_grad_(False)",
            )
        alpha = _synaptic(layer)
        scale = 1 - leak_of(layer) if layer.norm_input else 1.0
        neuron = partial(CUBALIF, tau, 1 / (1 - alpha), gain=alpha, current_gain=scale, learn_tau=bool(trained))
        told += f", tau_syn={shown(several_numbers(layer.tau_syn_calculated, 'tau_syn'))}"
    return _mapping(layer, dtype, neuron, f"{told}, norm_input={layer.norm_input}", trained)


def read_iaf(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `IAF` and `IAFSqueeze`."""
    if layer.alpha_syn_calculated is not None:
        raise Refused(
            "its current has a leak of its own (tau_syn) and its potential has none, and here a neuron with a synaptic "
            "current leaks",
            "Use tau_syn=None; or LIF with a tau_mem",
        )
    if layer.spike_fn is None:
        return _integrator(layer, LI(None), "")
    return _mapping(layer, dtype, IF, "", ())


def read_leak(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `ExpLeak` and `ExpLeakSqueeze`, and `LIF(spike_fn=None)`, whose output is the potential."""
    tau, trained, told = _membrane(layer, dtype)
    told += f", norm_input={layer.norm_input}"
    if layer.alpha_syn_calculated is None:
        gain = "1/tau" if trained and layer.norm_input else 1 - leak_of(layer) if layer.norm_input else 1.0
        return _integrator(layer, _set(LI(tau, gain=gain, learn_tau=bool(trained)), layer, dtype), told, trained)
    if trained and layer.norm_input:
        raise Refused(
            f"it trains {trained[0].theirs}, which scales its synaptic current too (norm_input=True), and here the "
            "scale of a synaptic current is a constant",
            f"Keep it as it is, {trained[0].theirs}.requires_grad_(False)",
        )
    alpha = _synaptic(layer)
    scale = 1 - leak_of(layer) if layer.norm_input else 1.0
    neuron = LI(tau, gain=alpha, tau_syn=1 / (1 - alpha), current_gain=scale, learn_tau=bool(trained))
    return _integrator(layer, _set(neuron, layer, dtype), told, trained)


def read_alif(layer: Any, dtype: torch.dtype) -> Mapping:
    """Read `ALIF` and `ALIFSqueeze`: a threshold b0 + adapt_scale b, with b = a b + (1 - a) s."""
    for name in ("mem", "adapt", "syn"):
        kind = f"alpha_{name}" if layer.train_alphas else f"tau_{name}"
        if is_trained(getattr(layer, kind)):
            raise Refused(
                f"it trains {kind}, as the library does unless told otherwise, and here the time constants of a neuron "
                "whose threshold adapts are constants that scale nothing else",
                f"Keep it as it is, layer.{kind}.requires_grad_(False)",
            )
    if type(layer.reset_fn).__name__ == "MembraneSubtract" and layer.reset_fn.subtract_value is not None:
        moving = False
    else:
        moving = type(layer.reset_fn).__name__ == "MembraneSubtract"
    leak, rho = leak_of(layer), several_numbers(layer.alpha_adapt_calculated, "tau_adapt")
    scale = several_numbers(layer.adapt_scale, "adapt_scale")
    options: dict[str, Any] = {"gain": 1 - leak if layer.norm_input else 1.0}
    told = f"tau_mem={shown(-1 / _log(leak))}, tau_adapt={shown(-1 / _log(rho))}, adapt_scale={shown(scale)}"
    if layer.alpha_syn_calculated is not None:  # which keeps the current after it is scaled
        alpha = several_numbers(layer.alpha_syn_calculated, "tau_syn")
        share = (1 - leak) * alpha if layer.norm_input else alpha
        options = {"gain": share, "tau_syn": 1 / (1 - share)}
        told += f", tau_syn={shown(-1 / _log(alpha))}"
    neuron = partial(ALIF, 1 / (1 - leak), 1 / (1 - rho), (1 - rho) * scale, moving_reset=moving, **options)
    found = _mapping(layer, dtype, neuron, f"{told}, norm_input={layer.norm_input}", (), layer.b0)
    remark = "theirs passes no gradient from its threshold to its spikes, ours does (compared with it put in)"
    return replace(found, complete=_with_threshold, remark=remark)


def read_recurrent(read: Callable[[Any, torch.dtype], Mapping]) -> Callable[[Any, torch.dtype], Mapping]:
    """Return a reader of a neuron that feeds its spikes back through `rec_connect`."""

    def reader(layer: Any, dtype: torch.dtype) -> Mapping:
        found, back = read(layer, dtype), layer.rec_connect
        recurrent = Recurrent(found.neuron, back, first="nothing")
        return replace(found, layer=recurrent, joined=partial(_joined, back), alone=_alone)

    return reader


def _joined(back: nn.Module, x: Tensor, spikes: Tensor) -> Tensor:
    """Return the input of every step with what comes back from the spikes of the step before; nothing at the first."""
    return torch.stack([x[0], *(x[t] + back(spikes[t - 1]).reshape(x[t].shape) for t in range(1, len(x)))])


def _alone(layer: Any) -> None:
    layer.rec_connect = _Nothing()


class _Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def leak_of(layer: Any) -> float | Tensor:
    """Return the share of the potential that is left after a step.

    Raises:
        Refused: It is none.
    """
    leak = several_numbers(layer.alpha_mem_calculated, "tau_mem")
    low, high = (leak.min().item(), leak.max().item()) if isinstance(leak, Tensor) else (leak, leak)
    if not 0 <= low <= high < 1:
        raise Refused(
            f"its leak is {low if not low >= 0 else high:g}, and a leak is at least 0 and below 1",
            "Use a positive tau_mem, or IAF",
        )
    return leak


def _membrane(layer: Any, dtype: torch.dtype) -> tuple[float | Tensor, tuple[Trained, ...], str]:
    """Return the time constant of the potential here, what is trained of it, and theirs as text."""
    leak = leak_of(layer)
    name = "alpha_mem" if layer.train_alphas else "tau_mem"
    told = f"tau_mem={shown(several_numbers(layer.tau_mem_calculated, 'tau_mem'))}"
    if not is_trained(getattr(layer, name)):
        return 1 / (1 - leak), (), told
    if isinstance(leak, float) and not leak > 0:
        raise Refused(f"it trains {name} and starts at a leak of 0", "Start with a larger tau_mem")
    if layer.train_alphas:
        back = Trained("leak_logit", name, torch.sigmoid, "alpha_mem = sigmoid(leak_logit)")
    else:
        back = Trained("leak_logit", name, _time_constant, "tau_mem = -1/ln(sigmoid(leak_logit))")
    return 1 / (1 - leak), (back,), told


def _time_constant(logit: Tensor) -> Tensor:
    return -1 / nn.functional.logsigmoid(logit)


def _synaptic(layer: Any) -> float | Tensor:
    name = "alpha_syn" if layer.train_alphas else "tau_syn"
    if is_trained(getattr(layer, name)):
        raise Refused(
            f"it trains {name}, as the library does unless told otherwise, which scales its input too, and here a "
            "trained time constant of a current does not",
            f"Keep it as it is, layer.{name}.requires_grad_(False)",
        )
    return several_numbers(layer.alpha_syn_calculated, name)


def _log(value: float | Tensor) -> float | Tensor:
    found = torch.as_tensor(value, dtype=torch.float64).log()
    return found if found.dim() else found.item()


def _check_kept(layer: Any) -> None:
    if layer.record_states:
        raise Refused(
            "it records its states (record_states=True), which nobody would fill here", "Use record_states=False"
        )


def _integrator(layer: Any, neuron: Any, told: str, trained: tuple[Trained, ...] = ()) -> Mapping:
    _check_kept(layer)
    if layer.min_v_mem is not None:
        raise Refused(
            f"its potential has a lower bound (min_v_mem={one_number(layer.min_v_mem, 'min_v_mem'):g}), and here a "
            "neuron that sends its potential has none",
            "Use min_v_mem=None",
        )
    return Mapping(f"{type(layer).__name__}({told})", neuron, 1.0, trained=trained)


def _mapping(
    layer: Any,
    dtype: torch.dtype,
    neuron: Any,
    told: str,
    trained: tuple[Trained, ...],
    base: Tensor | None = None,
) -> Mapping:
    _check_kept(layer)
    limit = layer.spike_threshold if base is None else base
    if is_trained(limit):
        raise Refused(
            "it trains its threshold, to which its spike function passes no gradient, and here it does",
            "Keep it as it is, spike_threshold.requires_grad_(False)",
        )
    threshold = all_positive(several_numbers(limit, "spike_threshold"), "spike_threshold")
    most = read_spikes(layer.spike_fn)
    options, reset = read_reset(layer.reset_fn, threshold, most)
    low = None if layer.min_v_mem is None else one_number(layer.min_v_mem, "min_v_mem")
    if low is not None and low > 0:
        raise Refused(f"its potential is at least {low:g}, above where it starts", "Use min_v_mem of at most 0")
    surrogate, strict = read_surrogate_of(layer, torch.as_tensor(limit).detach(), base is not None, dtype)
    options |= {"max_spikes": most, "lower_bound": low}
    counts = "SingleSpike" if most == 1 else "MultiSpike" if most is None else f"MaxSpike({most})"
    parts = [told, f"spike_threshold={shown(threshold)}", f"spike_fn={counts}", reset]
    parts += [] if low is None else [f"min_v_mem={low:g}"]
    theirs = f"{type(layer).__name__}({', '.join(filter(None, parts))})"
    here = neuron(threshold=threshold, surrogate=surrogate, **options)
    return Mapping(theirs, _set(here, layer, dtype) if trained else here, threshold, strict, trained=trained)


def _set(neuron: Any, layer: Any, dtype: torch.dtype) -> Any:
    """Return a neuron with a trained leak in the precision of the run."""
    if neuron.learns(""):
        leak = torch.as_tensor(leak_of(layer), dtype=torch.float64)
        neuron.leak_logit.data = torch.logit(leak).to(dtype)
    return neuron


class _ToThreshold(torch.autograd.Function):
    """Spikes of theirs, with a gradient to the threshold."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor, function: Any, slope: Any) -> Tensor:
        ctx.save_for_backward(v, threshold)
        ctx.slope = slope
        return function.apply(v, threshold, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        v, threshold = ctx.saved_tensors
        at = grads[0] * ctx.slope(v, threshold)
        return at, -at, None, None


class _Complete:
    """A spike function of theirs that passes a gradient to the threshold, too."""

    required_states = ("v_mem",)

    def __init__(self, function: Any) -> None:
        self.function = function

    def apply(self, v: Tensor, threshold: Tensor, slope: Any) -> Any:
        return _ToThreshold.apply(v, threshold, self.function, slope)


def _with_threshold(layer: Any) -> None:
    layer.spike_fn = _Complete(layer.spike_fn)
