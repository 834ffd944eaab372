"""Integrate-and-fire neurons of SpikingJelly 2.0, one by one."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikewright.interop.mapping import Mapping, Refused, Trained, is_trained, positive
from spikewright.interop.surrogates import Surrogate, firing, read_surrogate
from spikewright.neurons import CUBALIF, IF, LI, LIF
from spikewright.surrogate import ATan, Erf, Exponential, FastSigmoid, Rectangle, Sigmoid, Triangle

SURROGATES: dict[str, Callable[[Any], list[Callable[[], Surrogate]]]] = {
    "Sigmoid": lambda fire: [lambda: Sigmoid(fire.alpha)],
    "ATan": lambda fire: [lambda: ATan(fire.alpha)],
    "SoftSign": lambda fire: [lambda: FastSigmoid(fire.alpha)],
    "SuperSpike": lambda fire: [lambda: FastSigmoid(1.0, factor=2 * fire.alpha)],
    "QPseudoSpike": lambda fire: [lambda: FastSigmoid(2.0)] if fire.alpha == 2 else [],
    "PiecewiseQuadratic": lambda fire: [lambda: Triangle(fire.alpha)],
    "PiecewiseExp": lambda fire: [lambda: Exponential(1 / fire.alpha)],
    "Erf": lambda fire: [lambda: Erf(fire.alpha)],
    "LeakyKReLU": lambda fire: [lambda: Rectangle(2.0**20, factor=fire.k * 2.0**20)],
    "DeterministicPass": lambda fire: [lambda: Rectangle(2.0**20, factor=2.0**20)],
}
"""Surrogates of ours that have the slope of theirs, by its name, for some of its arguments."""


def read_lif(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `LIFNode` and `SimpleLIFNode`."""
    gain = 1 / node.tau if node.decay_input else 1.0
    shown = f"tau={node.tau:g}, decay_input={node.decay_input}"
    return mapping_of(node, dtype, partial(LIF, node.tau, gain=gain), shown)


def read_if(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `IFNode` and `SimpleIFNode`."""
    return mapping_of(node, dtype, IF, "")


def read_parametric(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `ParametricLIFNode`, whose leak is 1 - sigmoid(w)."""
    kept = torch.sigmoid(node.w.detach().to(dtype)).item()
    shown = f"tau={1 / kept:g}, decay_input={node.decay_input}"
    if not is_trained(node.w):
        gain = kept if node.decay_input else 1.0
        return mapping_of(node, dtype, partial(LIF, 1 / kept, gain=gain), shown)
    gain = "1/tau" if node.decay_input else 1.0
    found = mapping_of(node, dtype, partial(LIF, 1 / kept, gain=gain, learn_tau=True), shown)
    with torch.no_grad():
        found.neuron.leak_logit.data = -node.w.detach().to(dtype).clone()  # type: ignore[union-attr]
    back = Trained("leak_logit", "w", torch.neg, "w = -leak_logit")
    return Mapping(found.theirs, found.neuron, found.fires_at, found.strict, found.rests_at, trained=(back,))


def read_cuba(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `CUBALIFNode`: decay c_decay of the current, which is added whole to the potential, and v_decay of that."""
    for name in ("c_decay", "v_decay"):
        decay = getattr(node, name)
        if not 0 <= decay < 1:
            raise Refused(
                f"its {name} is {decay:g}, and here a decay is at least 0 and below 1", f"Choose such a {name}"
            )
    if node._memories_rv["c"] != 0:
        raise Refused("its current does not start at 0, as one does here", "Leave the start (set_reset_value)")
    if node.v_reset not in (None, 0):
        raise Refused(
            f"its potential is reset to {node.v_reset:g} and decays towards 0, and here it is reset to where it rests",
            "Use v_reset=0.0 or v_reset=None",
        )
    shown = f"c_decay={node.c_decay:g}, v_decay={node.v_decay:g}"
    return mapping_of(node, dtype, partial(CUBALIF, 1 / (1 - node.v_decay), 1 / (1 - node.c_decay)), shown)


def read_integrator(node: Any, dtype: torch.dtype) -> Mapping:
    """Read `NonSpikingLIFNode` and `NonSpikingIFNode`, which send their potential."""
    if node.decode not in (None, "mean-mem", "last_mem"):
        raise Refused(
            f"it sends the largest potential of the sequence (decode={node.decode!r}), and here potentials are sent step "
            "by step",
            "Use decode=None, and take the largest of what Network.run returns",
        )
    tau = getattr(node, "tau", None)
    neuron = LI(None) if tau is None else LI(tau, gain=1 / tau)
    shown = ", ".join([*(() if tau is None else [f"tau={tau:g}"]), f"decode={node.decode!r}"])
    told = (
        ""
        if node.decode is None
        else f"sent step by step: theirs returns the {node.decode.split('-')[0].split('_')[0]}"
    )
    returns = ("steps",) if node.decode is None else ()
    return Mapping(f"{type(node).__name__}({shown})", neuron, math.inf, remark=told, returns=returns)


def mapping_of(node: Any, dtype: torch.dtype, neuron: Callable[..., Any], shown: str) -> Mapping:
    """Return what a node is here, from a maker of our neuron that takes `reset`, `threshold` and the like.

    Args:
        node: The node.
        dtype: Of the run.
        neuron: The maker.
        shown: Arguments that are peculiar to the node, as code.
    """
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
