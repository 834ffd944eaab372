"""Further neurons of SpikingJelly 2.0: recurrent containers, and what has no equal here."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.interop.copies import clone
from spikewright.interop.mapping import Mapping, Refused
from spikewright.interop.recurrence import Through, delayed, joined
from spikewright.interop.spikingjelly_neurons import (
    read_cuba,
    read_if,
    read_integrator,
    read_lif,
    read_parametric,
)
from spikewright.layers import Recurrent

UNVOICED = frozenset({"NonSpikingLIFNode", "NonSpikingIFNode"})
"""Neurons that send their potential, and take sequences alone."""
CONTAINERS = frozenset({"LinearRecurrentContainer", "ElementWiseRecurrentContainer"})


def read_linear(container: Any, dtype: torch.dtype) -> Mapping:
    """Read `LinearRecurrentContainer`: a linear layer of the input and the last spikes, side by side."""
    found, layer = _inside(container, dtype), container.rc
    if type(layer) is not nn.Linear:
        raise Refused(
            f"its rc was replaced by {type(layer).__name__}, of which nothing is known here",
            "Use the nn.Linear that the library makes",
        )
    width = layer.in_features - layer.out_features
    if width != container.sub_module_out_features or width != layer.out_features:
        raise Refused(
            f"its {layer.out_features} neurons are said to send {container.sub_module_out_features} spikes",
            "Use out_features of as many as in_features",
        )

    def whole(x: Tensor, spikes: Tensor) -> Tensor:
        return layer(torch.cat((x, delayed(spikes)), -1))

    def apart(copy: Any) -> None:
        copy.rc = First(layer.out_features)

    told = f"LinearRecurrentContainer({found.theirs}, {layer.out_features}, {width}, bias={layer.bias is not None})"
    return replace(found, theirs=told, layer=Through(found.neuron, layer), joined=whole, alone=apart)


def read_elementwise(container: Any, dtype: torch.dtype) -> Mapping:
    """Read `ElementWiseRecurrentContainer`, whose function is the sum of the last spikes and the input."""
    found, function = _inside(container, dtype), container.element_wise_function
    x, y = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    if not torch.equal(function(y, x), y + x):
        raise Refused(
            "its element_wise_function is not the sum of the last spikes and the input, and here spikes that come back "
            "are added to the input",
            "Use the sum, lambda y, x: y + x",
        )

    def apart(copy: Any) -> None:
        copy.element_wise_function = lambda y, x: x

    told, same = f"ElementWiseRecurrentContainer({found.theirs}, sum)", nn.Identity()
    layer = Recurrent(found.neuron, same, first="nothing")
    return replace(found, theirs=told, layer=layer, joined=partial(joined, same), alone=apart)


def _inside(container: Any, dtype: torch.dtype) -> Mapping:
    node = container.sub_module
    reader = NEURONS.get(type(node).__name__)
    if reader is None or type(node).__name__ in UNVOICED | CONTAINERS:
        raise Refused(
            f"it holds a {type(node).__name__}, and here spikes of one layer of neurons come back",
            "Use LIFNode, IFNode, ParametricLIFNode or CUBALIFNode as its sub_module",
        )
    found = reader(node, dtype)
    return replace(found, trained=tuple(replace(each, theirs=f"sub_module.{each.theirs}") for each in found.trained))


class First(nn.Module):
    """The first features alone, in place of a layer that reads more.

    Args:
        number: How many.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.number]


NEURONS: dict[str, Callable[[Any, torch.dtype], Mapping]] = {
    "LIFNode": read_lif,
    "SimpleLIFNode": read_lif,
    "IFNode": read_if,
    "SimpleIFNode": read_if,
    "ParametricLIFNode": read_parametric,
    "CUBALIFNode": read_cuba,
    "NonSpikingLIFNode": read_integrator,
    "NonSpikingIFNode": read_integrator,
    "LinearRecurrentContainer": read_linear,
    "ElementWiseRecurrentContainer": read_elementwise,
}


def rest(node: Any) -> None:
    """Put a neuron, and one inside a container, back to rest."""
    for module in node.modules():
        if hasattr(module, "reset"):
            module.reset()


def sent(node: Any, x: Tensor, y: Any) -> Tensor:
    """Return spikes, or the potential of every step, `[time, batch, *feature]`, of a neuron that never fires."""
    if type(node).__name__ not in UNVOICED:
        return y
    if node.decode is not None:
        node = clone(node)
        node.decode = None  # type: ignore[assignment]
        y = node(x)
    return torch.stack(y)


_NEAREST = "The nearest exact one is LIFNode"


def _says(equation: str, why: str, instead: str = _NEAREST) -> tuple[str, str]:
    return f"{equation}, and here {why}", instead


_ILC = "its spikes come back through a convolution inside it, which acts on groups of neurons"
_NOISE = "it adds stored coloured noise to its current and its output"
_PSN = _says(
    "its potentials are a weighted sum of the whole sequence, u = W x over time, without a reset",
    "a potential follows from the one of the step before",
)
MISSING: dict[str, tuple[str, str]] = {
    "HalfThresholdIFNode": (
        "its potential starts at half the threshold, and here a potential starts at rest",
        "Use IFNode(v_reset=None)",
    ),
    "KLIFNode": _says(
        "it fires at relu(k u) with a k that it trains, where u = v + (x - (v - v_reset))/tau",
        "potentials are compared as they are, and may be below 0",
    ),
    "QIFNode": _says(
        "its potential grows as u = v + (x + a0 (v - v_rest)(v - v_c))/tau, which is quadratic", "a potential is linear"
    ),
    "EIFNode": _says(
        "its potential grows as u = v + (x + v_rest - v + delta_T exp((v - theta_rh)/delta_T))/tau",
        "a potential is linear",
    ),
    "IzhikevichNode": _says(
        "its potential grows as u = v + (x + a0 (v - v_rest)(v - v_c) - w)/tau with a second variable w",
        "a potential is linear",
    ),
    "GatedLIFNode": _says(
        "it mixes two leaks, two resets and two input scales by gates that it trains, one scale for every step of a "
        "sequence of fixed length",
        "equations are the same at every step",
    ),
    "ComplementaryLIFNode": _says(
        "each spike also lowers its potential by sigmoid(m), m = m sigmoid(v/tau) + s, with a second variable m",
        "a reset takes a constant amount off",
    ),
    "LIAFNode": _says("it sends act(u) and not its spikes", "neurons send spikes, or their potential"),
    "ILIFNode": _says(
        "it sends up to several spikes, round(clamp(u/V, 0, D)), rounded to the nearest number",
        "a neuron with several spikes sends the number of thresholds that fit into its potential",
    ),
    "TernaryIFNode": _says("it sends 1, 0 or -1", "a spike has one sign"),
    "TernaryLIFNode": _says("it sends 1, 0 or -1", "a spike has one sign"),
    "STBIFNode": _says("it sends 1, 0 or -1, and counts what it has sent", "a spike has one sign"),
    "RAFNode": _says(
        "its potential oscillates with a second variable, u = exp(b dt) (u cos - v sin) + x and v = exp(b dt) (u sin + "
        "v cos), with the cosine and sine of omega dt",
        "potentials do not oscillate",
    ),
    "MPBNBaseNode": _says(
        "it normalises its potential by a batch norm at every step before it fires", "potentials are not normalised"
    ),
    "PSN": _PSN,
    "MaskedPSN": _PSN,
    "SlidingPSN": _says(
        "its potentials are a weighted sum of the last k inputs, without a reset",
        "a potential follows from the one of the step before",
    ),
    "DSRIFNode": _says(
        "its gradient is that of a firing rate, not of its spikes",
        "a neuron has a surrogate",
        "Use IFNode and the rule DSR",
    ),
    "DSRLIFNode": _says(
        "its gradient is that of a weighted firing rate, not of its spikes",
        "a neuron has a surrogate",
        "Use LIFNode and the rule DSR",
    ),
    "OTTTLIFNode": _says(
        "it cuts the gradient at every step by itself, and returns a trace in training",
        "a rule does so, for any neuron",
        "Use LIFNode and the rule OTTT",
    ),
    "SLTTLIFNode": _says(
        "it cuts the gradient at every step by itself, in training",
        "a rule does so, for any neuron",
        "Use LIFNode and the rule SLTT",
    ),
    "FewSpikeNode": _says("its thresholds and resets differ from step to step", "equations are the same at every step"),
    "ActivationAwareIFNode": _says(
        "it fires at u + v_offset and takes v_threshold off",
        "this is IF(threshold=v_threshold - v_offset, rest=-v_offset), which is not proven",
        "Use IFNode, or write it so by hand",
    ),
    "ILCBaseNode": _says(_ILC, "a recurrent layer is written with spikewright.Recurrent"),
    "NoisyBaseNode": _says(_NOISE, "noise is drawn for each neuron and step, and added to spikes alone"),
    "NoisyNonSpikingBaseNode": _says(_NOISE, "noise is drawn for each neuron and step, and added to spikes alone"),
    "FlexSN": _says("its equations are a function of the user's", "they have to be written as a spikewright.Neuron"),
}
