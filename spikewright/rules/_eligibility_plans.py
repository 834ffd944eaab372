"""Which parts of the states of neurons a layer keeps eligibilities for, and where traces of its inputs are enough."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch.nn.modules.conv import _ConvTransposeNd

from spikewright.errors import IncompatibleRule
from spikewright.network.wiring import Synapse, Wiring, module_name
from spikewright.rules._own_state import OwnState
from spikewright.rules._readout_filters import filter_parts, measured_state, readout_taps, response_taps
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
    """Return what a network learns by at present; decays may be trained.

    Args:
        rule: Name of the rule.
        wiring: Wiring of the network.

    Raises:
        IncompatibleRule: A layer would need eligibilities of pairs of neurons.
    """
    filters = {site: taps for site in wiring.neurons if (taps := readout_taps(site, wiring))}
    synapses = wiring.synapses.items()
    layers = {site: _planned(rule, synapse, wiring, filters) for site, synapse in synapses if synapse.receivers}
    return Plans(layers, filters)


def _planned(rule: str, synapse: Synapse, wiring: Wiring, filters: Filters) -> LayerPlan:
    taps, receivers = _common_taps(synapse, wiring), synapse.receivers
    constant = not any(neuron.dynamics.adaptive for neuron in receivers.values())
    if taps is not None and constant and filters.keys().isdisjoint(receivers):
        return LayerPlan(taps, {})
    states = {site: measured_state(site, neuron, wiring) for site, neuron in receivers.items()}
    _check(rule, synapse, states, wiring)
    behind = {site: filter_parts(filters.get(site, ())) for site in receivers}
    straight = synapse.linear and not synapse.direct
    if taps is not None and straight and (constant or all(state.traced for state in states.values())):
        own = {site: () if constant else state.others for site, state in states.items()}
        return LayerPlan(taps, {site: parts + behind[site] for site, parts in own.items()})
    return LayerPlan(None, {site: state.names + behind[site] for site, state in states.items()})


def _common_taps(synapse: Synapse, wiring: Wiring) -> Taps | None:
    """Return the decays of a trace that is the derivative of every receiver's potential; `None` if there is none."""
    found: list[Taps] = []
    for site, neuron in synapse.receivers.items():
        dynamics, taps = neuron.dynamics, taps_of(neuron.dynamics)
        known = tuple(tap for tap in taps if tap is not None and number(tap) is not None)
        if len(known) < len(taps) or not dynamics.linear:
            return None
        if not (dynamics.soft_reset and dynamics.detached_reset) and not response_taps(site, wiring):
            return None
        found.append(known)
    return found[0] if len({tuple(map(number, taps)) for taps in found}) == 1 else None


def _check(rule: str, synapse: Synapse, states: Mapping[str, OwnState], wiring: Wiring) -> None:
    asked = f"{rule} keeps the derivative of the state of every neuron by its own weights at '{synapse.name}', but"
    for site, state in states.items():
        kind = type(synapse.receivers[site]).__name__
        if state.coupled is not None:
            raise IncompatibleRule(
                f"{asked} the part '{state.coupled}' of the state of '{site}' ({kind}) depends on other neurons too, "
                "so that it would take one for every pair of neurons. Use BPTT, or SLTT, which needs none."
            )
        if not synapse.elementwise:
            raise IncompatibleRule(
                f"{asked} what '{site}' ({kind}) receives is not that layer's output entry by entry: pooling, a norm, "
                "or another order of entries lies in between. Put such a module in front of the layer, or use OTTT. "
                "Neurons with a soft, detached reset and a constant threshold, and without leaky readouts behind them, "
                "do with a trace of inputs."
            )
    if isinstance(wiring.sites.synapses[module_name(synapse.name)], _ConvTransposeNd):
        raise IncompatibleRule(
            f"{asked} that is a transposed convolution, whose outputs have no inputs of their own. Use an nn.Upsample "
            "and a convolution, or OTTT, which does with a trace of inputs."
        )
