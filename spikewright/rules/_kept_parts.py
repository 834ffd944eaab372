"""Which parts of the states of neurons a layer keeps eligibilities for, and where traces of its inputs are enough."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from spikewright.errors import IncompatibleRule
from spikewright.network.wiring import Synapse, Wiring, module_name
from spikewright.neurons import Neuron
from spikewright.rules._own_state import OwnState, own_state
from spikewright.rules._traces import Taps, number, remembering, taps_of


Filters = Mapping[str, Taps]
"""Decays of the readouts that neurons send to, by name of the neurons."""


@dataclass(frozen=True)
class LayerPlan:
    """What a layer learns by.

    Attributes:
        taps: Decays of the traces of its inputs; `None` where weight gradients are taken at the inputs themselves.
        kept: Parts of the state of the neurons it feeds that it keeps eligibilities for, by neuron.
    """

    taps: Taps | None
    kept: Mapping[str, tuple[str, ...]]

    @property
    def remembering(self) -> Taps:
        """Decays of those traces that hold more than the last step."""
        return remembering(self.taps or ())


@dataclass(frozen=True)
class Plans:
    """What a network learns by.

    Attributes:
        layers: Plans of the layers that feed neurons, by name.
        filters: Decays by which the derivatives of the output of neurons are filtered, by name of the neurons: those of
            the leaky readouts that they send to and to nothing else.
    """

    layers: Mapping[str, LayerPlan]
    filters: Filters


def plans_for(rule: str, wiring: Wiring) -> Plans:
    """Return what a network learns by, found once per wiring.

    Args:
        rule: Name of the rule.
        wiring: Wiring of the network.

    Raises:
        IncompatibleRule: A layer would need eligibilities of pairs of neurons.
    """
    plans: Plans | None = wiring.memory.get("eligibilities")
    if plans is None:
        filters = {site: taps for site in wiring.neurons if (taps := _readout_taps(site, wiring))}
        synapses = wiring.synapses.items()
        layers = {site: _planned(rule, synapse, wiring, filters) for site, synapse in synapses if synapse.receivers}
        plans = wiring.memory["eligibilities"] = Plans(layers, filters)
    return plans


def _planned(rule: str, synapse: Synapse, wiring: Wiring, filters: Filters) -> LayerPlan:
    taps, receivers = _common_taps(synapse, wiring), synapse.receivers
    constant = not any(neuron.dynamics.adaptive for neuron in receivers.values())
    if taps is not None and constant and filters.keys().isdisjoint(receivers):
        return LayerPlan(taps, {})
    states = {site: _measured(site, neuron, wiring) for site, neuron in receivers.items()}
    _check(rule, synapse, states, wiring)
    behind = {site: filter_parts(filters.get(site, ())) for site in receivers}
    if taps is not None and synapse.linear and not synapse.direct and (constant or all(s.traced for s in states.values())):
        own = {site: () if constant else state.others for site, state in states.items()}
        return LayerPlan(taps, {site: parts + behind[site] for site, parts in own.items()})
    return LayerPlan(None, {site: state.names + behind[site] for site, state in states.items()})


def filter_parts(taps: Taps) -> tuple[str, ...]:
    """Return the names of what is kept of the derivatives of an output that readouts of some decays see."""
    return ("current of readouts", "potential of readouts")[-len(taps) :] if taps else ()


def _readout_taps(site: str, wiring: Wiring) -> Taps:
    """Return the decays of the leaky readouts that neurons send to, if they send to nothing else in the same step."""
    reached = wiring.at_once.get(site, frozenset())
    bent = any(curve.source == site for curve in wiring.curves)
    if not reached or bent or site in wiring.read_out or not all(map(wiring.is_last, reached)):
        return ()
    found = [_response_taps(name, wiring) for name in sorted(reached)]
    return found[0] if len({tuple(map(number, taps)) for taps in found}) == 1 else ()


def _response_taps(site: str, wiring: Wiring) -> Taps:
    """Return the decays of neurons that do not spike, if these are what their output makes of an input."""
    neuron = wiring.neurons[site]
    if neuron.binary:  # spikes are no potential
        return ()
    taps = tuple(tap for tap in taps_of(neuron.dynamics) if number(tap) is not None)
    response = _measured(site, neuron, wiring).response
    if not response or not taps:
        return ()
    numbers = [0.0, *(float(number(tap) or 0.0) for tap in taps)][-2:]
    worth, left = [1.0], 1.0
    for _ in response[1:]:
        left *= numbers[0]
        worth.append(worth[-1] * numbers[1] + left)
    near = all(abs(a - b) <= 1e-5 for a, b in zip(worth, response))
    return remembering(taps) if near else ()


def _common_taps(synapse: Synapse, wiring: Wiring) -> Taps | None:
    """Return the decays of a trace that is the derivative of every receiver's potential; `None` if there is none."""
    found: list[Taps] = []
    for site, neuron in synapse.receivers.items():
        dynamics, taps = neuron.dynamics, taps_of(neuron.dynamics)
        known = tuple(tap for tap in taps if number(tap) is not None)
        if len(known) < len(taps) or not dynamics.linear:
            return None
        if not (dynamics.soft_reset and dynamics.detached_reset) and not _response_taps(site, wiring):
            return None
        found.append(known)
    return found[0] if len({tuple(map(number, taps)) for taps in found}) == 1 else None


def _measured(site: str, neuron: Neuron, wiring: Wiring) -> OwnState:
    key = f"own state of {site}"
    if key not in wiring.memory:
        wiring.memory[key] = own_state(neuron, wiring.shapes[site], _like(wiring.sites.module))
    return wiring.memory[key]


def _like(module: nn.Module) -> torch.Tensor:
    """Return a tensor of the type and device of a network, in 32 bits at least."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            wide = parameter.dtype if parameter.dtype.itemsize >= 4 else torch.float32
            return torch.empty(0, dtype=wide, device=parameter.device)
    return torch.empty(0)


def _check(rule: str, synapse: Synapse, states: Mapping[str, OwnState], wiring: Wiring) -> None:
    asked = f"{rule} keeps the derivative of the state of every neuron by its own weights at '{synapse.name}', but"
    for site, state in states.items():
        kind = type(synapse.receivers[site]).__name__
        if state.coupled is not None:
            raise IncompatibleRule(
                f"{asked} the part '{state.coupled}' of the state of '{site}' ({kind}) depends on other neurons too, so "
                "that it would take one for every pair of neurons. Use BPTT, or SLTT, which needs none."
            )
        if not synapse.elementwise:
            raise IncompatibleRule(
                f"{asked} what '{site}' ({kind}) receives is not that layer's output entry by entry: pooling, a norm, or "
                "another order of entries lies in between. Put such a module in front of the layer; or use OTTT; or "
                "give the neurons a soft, detached reset and a constant threshold, where a trace of inputs is enough."
            )
    if isinstance(wiring.sites.synapses[module_name(synapse.name)], _ConvTransposeNd):
        raise IncompatibleRule(
            f"{asked} that is a transposed convolution, whose outputs have no inputs of their own. Use an nn.Upsample "
            "and a convolution; or neurons with a soft, detached reset and a constant threshold; or OTTT."
        )
