"""Faults planted in the mapping of neurons, and in what is around them: the proof finds every one.

The input is so weak that no neuron fires on it: what is found, the probe currents find.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert, reading
from spikewright.interop.mapping import Mapping
from spikewright.neurons import CUBALIF, IF, LI
from spikewright.surrogate import ATan, Sigmoid
from spikewright.temporal import SiteState
from tests.interop.theirs import VALUES, line, their_neuron

Fault = Callable[[Mapping, torch.dtype], Any]


def again(mapping: Mapping, **changes: Any) -> Mapping:
    """The same mapping with other constants of our neuron."""
    return replace(mapping, neuron=renewed(mapping.neuron, **changes))


def renewed(neuron: Any, **changes: Any) -> Any:
    kind = type(neuron)
    own: dict[str, Any] = {}
    for name in signature(kind).parameters:
        if name.startswith("learn_"):
            own[name] = name == "learn_tau" and neuron.learns("")
        elif name == "tau_adaptation":
            own[name] = 1 / (1 - neuron.adaptation_leak)
        elif name in ("tau", "tau_syn"):
            has = name == "tau" or getattr(neuron, "has_current", True)
            leak = neuron.leak if name == "tau" else getattr(neuron, "current_leak", 0.0)
            own[name] = 1 / (1 - torch.as_tensor(leak, dtype=torch.float64).item()) if has else None
        elif name != "inplace":
            own[name] = getattr(neuron, name)
    if getattr(neuron, "_tied", False):
        own["gain"] = "1/tau"
    return kind(**own | changes)


def logit(mapping: Mapping, dtype: torch.dtype) -> Mapping:
    with torch.no_grad():
        mapping.neuron.leak_logit.neg_()  # type: ignore[operator]
    return mapping


class BoundFirst(IF):
    """Raises potentials to the lower bound before it decides and resets."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, sent = state.get("membrane", torch.zeros_like(x[0])), []
        for step in x:
            u = (v + step).clamp_min(self.lower_bound)
            spikes = (u / self.threshold).floor().clamp_min(0)
            v = u - spikes * self.threshold
            sent.append(spikes + 0 * u)
        return torch.stack(sent), {"membrane": v}

    scan_uses = frozenset({"max_spikes", "lower_bound"})


def bound_first(mapping: Mapping, dtype: torch.dtype) -> Mapping:
    one: Any = mapping.neuron
    neuron = BoundFirst(
        one.threshold, detach_reset=False, surrogate=one.surrogate, max_spikes=None, lower_bound=one.lower_bound
    )
    return replace(mapping, neuron=neuron)


class CurrentLater(CUBALIF):
    """Adds the input to the current after the potential has taken the current."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(torch.cat([torch.zeros_like(x[:1]), x[:-1]]), state, through_time)

    scan_uses = frozenset({"gain", "max_spikes", "strict", "rest"})


class PotentialLater(LI):
    """Sends the potential of the step before."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return super().scan(torch.cat([torch.zeros_like(x[:1]), x[:-1]]), state, through_time)


def of_class(kind: Any) -> Fault:
    def fault(mapping: Mapping, dtype: torch.dtype) -> Mapping:
        neuron: Any = renewed(mapping.neuron)
        neuron.__class__ = kind
        return replace(mapping, neuron=neuron)

    return fault


def swapped(mapping: Mapping, dtype: torch.dtype) -> Mapping:
    neuron: Any = mapping.neuron
    return again(mapping, tau=neuron.tau_syn, tau_syn=neuron.tau)


def back_as(function: Callable[[Tensor], Tensor]) -> Fault:
    return lambda mapping, dtype: replace(
        mapping, trained=tuple(replace(each, back=function) for each in mapping.trained)
    )


def without_sign(mapping: Mapping, dtype: torch.dtype) -> Mapping:
    return replace(mapping, trained=tuple(replace(each, back=lambda value: value + 0) for each in mapping.trained))


JELLY, SOFT, FROM, FIRE, PARAMETRIC = (line("SpikingJelly", i) for i in (0, 2, 3, 5, 8))
LATE, ZERO, KEPT, GRADED, LAPICQUE = (line("snnTorch", i) for i in (0, 2, 3, 4, 6))
NABS, PLAIN, MEMBRANE, AMOUNT, IAF = (line("sinabs", i) for i in range(5))
SEVERAL, ALPHA, MOST, MULTI_HARD, BOUND, SYN, SYN_PLAIN, MULTI, LOWEST, EXP, EXP_NORM, ADAPT, ADAPT_SYN = (
    line("sinabs", i) for i in range(5, 18)
)
BOX, BOX_SOFT, CELL, CUBA, LEAKY, LEAKY_BOX = (line("Norse", i) for i in range(6))

FAULTS: dict[str, tuple[Any, Fault]] = {
    "tau off by a step": (JELLY, lambda m, d: again(m, tau=m.neuron.tau + 1)),
    "tau off by a thousandth": (JELLY, lambda m, d: again(m, tau=m.neuron.tau * 1.001)),
    "gain dropped": (JELLY, lambda m, d: again(m, gain=1.0)),
    "gain inverted": (JELLY, lambda m, d: again(m, gain=m.neuron.tau)),
    "decay exp(-1/tau) for 1 - 1/tau": (JELLY, lambda m, d: again(m, tau=1 / (1 - math.exp(-1 / m.neuron.tau)))),
    "decay 1 - 1/tau for exp(-1/tau)": (NABS, lambda m, d: again(m, tau=VALUES["any"].tau)),
    "threshold a hundredth higher": (SOFT, lambda m, d: again(m, threshold=1.01 * m.neuron.threshold)),
    "v_reset ignored": (FROM, lambda m, d: again(m, threshold=VALUES["any"].V)),
    "fires above the threshold, not at it": (
        FIRE,
        lambda m, d: again(m, threshold=torch.nextafter(torch.tensor(1.0, dtype=d), torch.tensor(2.0, dtype=d)).item()),
    ),
    "hard reset made soft": (JELLY, lambda m, d: again(m, reset="subtract")),
    "soft reset made hard": (SOFT, lambda m, d: again(m, reset="zero")),
    "reset detached": (SOFT, lambda m, d: again(m, detach_reset=True)),
    "hard reset detached": (JELLY, lambda m, d: again(m, detach_reset=True)),
    "surrogate a tenth off": (JELLY, lambda m, d: again(m, surrogate=Sigmoid(4.4))),
    "surrogate of another kind": (JELLY, lambda m, d: again(m, surrogate=ATan(2.0))),
    "leak left out": (SOFT, lambda m, d: replace(again(m), neuron=IF(1.0, detach_reset=False, gain=m.neuron.gain))),
    "w with the other sign": (PARAMETRIC, logit),
    "w goes back with the other sign": (PARAMETRIC, without_sign),
    "fires at the threshold": (ZERO, lambda m, d: again(m, threshold=m.fires_at)),
    "late reset taken for an early one": (LATE, lambda m, d: again(m, rest=m.neuron.threshold - m.fires_at)),
    "late reset of beta times the threshold": (
        LATE,
        lambda m, d: again(m, rest=m.neuron.threshold - m.fires_at * VALUES["any"].beta),
    ),
    "late reset kept": (LATE, lambda m, d: again(m, detach_reset=False)),
    "reset_delay ignored": (KEPT, lambda m, d: again(m, detach_reset=True)),
    "graded factor dropped": (GRADED, lambda m, d: again(m, amplitude=1.0)),
    "graded factor in the reset": (GRADED, lambda m, d: again(m, rest=m.neuron.threshold - 1.5 * m.quantum)),
    "leak of its beta": (LAPICQUE, lambda m, d: again(m, tau=1 / (1 - math.exp(-1 / m.neuron.tau)))),
    "input scale of 1/tau": (LAPICQUE, lambda m, d: again(m, gain=1 / m.neuron.tau)),
    "norm_input ignored": (NABS, lambda m, d: again(m, gain=1.0)),
    "norm_input taken on": (PLAIN, lambda m, d: again(m, gain=1 / m.neuron.tau)),
    "MembraneReset ignored": (MEMBRANE, lambda m, d: again(m, reset="subtract", detach_reset=False)),
    "MembraneReset kept": (MEMBRANE, lambda m, d: again(m, detach_reset=False)),
    "subtract_value ignored": (AMOUNT, lambda m, d: again(m, rest=0.0)),
    "spike_threshold ignored": (IAF, lambda m, d: again(m, threshold=1.0)),
    "step twice as long": (BOX, lambda m, d: again(m, tau=m.neuron.tau / 2, gain=2 * m.neuron.gain)),
    "v_leak ignored": (BOX, lambda m, d: again(m, threshold=VALUES["any"].V)),
    "Norse fires at the threshold": (CELL, lambda m, d: again(m, threshold=m.fires_at)),
    "Norse reset detached": (CELL, lambda m, d: again(m, detach_reset=True)),
    "one spike at most": (MULTI, lambda m, d: again(m, max_spikes=1)),
    "no limit of spikes": (MOST, lambda m, d: again(m, max_spikes=None)),
    "a spike less": (MOST, lambda m, d: again(m, max_spikes=2)),
    "hard reset of several made soft": (MULTI_HARD, lambda m, d: again(m, reset="subtract")),
    "min_v_mem ignored": (BOUND, lambda m, d: again(m, lower_bound=None)),
    "lower bound a hundredth lower": (LOWEST, lambda m, d: again(m, lower_bound=1.01 * m.neuron.lower_bound)),
    "lower bound before the spike": (LOWEST, bound_first),
    "time constants swapped": (SYN, swapped),
    "time constants of Norse swapped": (CUBA, swapped),
    "tau_syn ignored": (SYN_PLAIN, lambda m, d: again(m, tau_syn=1.0)),
    "gain of tau_syn dropped": (SYN, lambda m, d: again(m, gain=1.0)),
    "norm_input of the current dropped": (SYN, lambda m, d: again(m, current_gain=1.0)),
    "norm_input of a trained tau not trained": (SEVERAL, lambda m, d: again(m, gain=1 - m.neuron.leak.item())),
    "tau goes back as 1/(1 - leak)": (SEVERAL, back_as(lambda logit: 1 + logit.exp())),
    "alpha goes back as the logit": (ALPHA, back_as(lambda logit: logit + 0)),
    "norm_input of a readout dropped": (EXP_NORM, lambda m, d: again(m, gain=1.0)),
    "leak of a readout a thousandth off": (EXP, lambda m, d: again(m, tau=1.001 * m.neuron.tau.item())),
    "jump of the threshold not scaled": (ADAPT, lambda m, d: again(m, beta=VALUES["any"].a)),
    "time constant of the threshold off": (ADAPT, lambda m, d: again(m, tau_adaptation=VALUES["any"].q)),
    "reset by the base threshold": (ADAPT, lambda m, d: again(m, moving_reset=False)),
    "reset of a moving threshold detached": (ADAPT, lambda m, d: again(m, detach_reset=True)),
    "gradient of the threshold taken as theirs": (ADAPT, lambda m, d: replace(m, complete=None)),
    "current of the threshold's neuron leaks tau_syn": (
        ADAPT_SYN,
        lambda m, d: again(m, tau_syn=1 / (1 - math.exp(-1 / VALUES["any"].n))),
    ),
    "current jump after the potential": (CUBA, of_class(CurrentLater)),
    "current scale of 1": (CUBA, lambda m, d: again(m, current_gain=1.0)),
    "LIFCell fires at the threshold": (CUBA, lambda m, d: again(m, strict=False)),
    "LIFCell reset detached": (CUBA, lambda m, d: again(m, detach_reset=True)),
    "v_leak of LIFCell ignored": (CUBA, lambda m, d: again(m, threshold=VALUES["any"].V)),
    "potential of the step before": (LEAKY, of_class(PotentialLater)),
    "gain of a readout dropped": (LEAKY_BOX, lambda m, d: again(m, gain=1.0)),
    "reset_subtract ignored": (BOX_SOFT, lambda m, d: again(m, rest=0.0, reset="zero")),
}


def planted(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    read = reading.Found.read
    monkeypatch.setattr(reading.Found, "read", lambda self, module, dtype: fault(read(self, module, dtype), dtype))


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_neuron_is_found_though_nothing_fires(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which, fault = FAULTS[name]
    values = VALUES["halves" if "LIFCell fires" in name else "any"]  # with which potentials come to it exactly
    model = nn.Sequential(nn.Linear(3, 5, bias=False), their_neuron(which, values))
    x = 1e-3 * torch.rand(4, 2, 3)
    row = convert(model, x).rows[0]
    assert not row.fired or row.ours.startswith("LI(")
    planted(monkeypatch, fault)
    with pytest.raises(ConversionError, match=r"layer '1', .* was taken for .* not rounding"):
        convert(model, x)


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 60


def jelly_net() -> nn.Module:
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        layer.Conv2d(1, 4, 3), layer.BatchNorm2d(4), neuron.IFNode(), layer.AvgPool2d(2), layer.Flatten(),
        layer.Linear(36, 3), neuron.IFNode(), layer.Linear(3, 2),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        net[1].bias.add_(1)
        net[5].weight.abs_().mul_(2)
    return net


def around(change: Callable[[nn.Module], None]) -> Callable[[Any], Any]:
    """Make `build` do something else with the copy."""

    def wrap(build: Any) -> Any:
        def changed(*given: Any, **options: Any) -> nn.Module:
            module = build(*given, **options)
            change(module)
            return module

        return changed

    return wrap


def put(index: int, module: nn.Module) -> Callable[[nn.Module], None]:
    return lambda net: net.__setitem__(index, module)  # type: ignore[operator]


def scaled(net: nn.Module) -> None:
    net[5].weight = nn.Parameter(1.001 * net[5].weight.detach())  # type: ignore[index]


def per_step(net: nn.Module) -> None:
    from spikewright.interop.frames import as_plain

    net[1] = as_plain(net[1], (), nn.BatchNorm2d)  # type: ignore[index, operator]


AROUND = {
    "pooling by the maximum": (put(3, nn.MaxPool2d(2)), r"current of layer '6' differs.* before any spike differs"),
    "a layer in front left out": (put(1, nn.Identity()), r"current of layer '2' differs"),
    "weights a thousandth off": (scaled, r"current of layer '6' differs"),
    "readout left out": (put(7, nn.Linear(3, 2)), r"the neurons agree in the float32 run, but not the output"),
    "norm of each step": (per_step, r"in the training run, before any spike differs"),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_is_wrong_around_the_neurons_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from spikewright.interop import _convert, doubles, training_mode

    change, message = AROUND[name]
    model, x = jelly_net(), 2 * torch.rand(6, 4, 1, 8, 8)
    assert all(row.fired for row in convert(model, x).rows)
    for module in (_convert, doubles, training_mode):
        monkeypatch.setattr(module, "build", around(change)(module.build))  # type: ignore[attr-defined]
    with pytest.raises(ConversionError, match=message):
        convert(model, x)


def test_a_state_that_is_left_over_does_not_count() -> None:
    model, x = jelly_net(), 2 * torch.rand(6, 4, 1, 8, 8)
    with torch.no_grad():
        model(x)
    potential = model[2].v.clone()  # type: ignore[union-attr, operator]
    assert convert(model, x).rows[0].differing == 0
    assert torch.equal(model[2].v, potential)  # type: ignore[union-attr, arg-type]
