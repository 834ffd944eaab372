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


def layer_plans(rule: str, wiring: Wiring) -> dict[str, LayerPlan]:
    """Return what every layer that feeds neurons learns by, found once per wiring.

    Args:
        rule: Name of the rule.
        wiring: Wiring of the network.

    Raises:
        IncompatibleRule: A layer would need eligibilities of pairs of neurons.
    """
    plans: dict[str, LayerPlan] | None = wiring.memory.get("eligibilities")
    if plans is None:
        synapses = wiring.synapses.items()
        plans = {site: _planned(rule, synapse, wiring) for site, synapse in synapses if synapse.receivers}
        wiring.memory["eligibilities"] = plans
    return plans


def _planned(rule: str, synapse: Synapse, wiring: Wiring) -> LayerPlan:
    taps = _common_taps(synapse)
    if taps is not None and not any(neuron.dynamics.adaptive for neuron in synapse.receivers.values()):
        return LayerPlan(taps, {})
    states = {site: _measured(site, neuron, wiring) for site, neuron in synapse.receivers.items()}
    _check(rule, synapse, states, wiring)
    if taps is not None and synapse.linear and all(state.traced for state in states.values()):
        return LayerPlan(taps, {site: state.others for site, state in states.items()})
    return LayerPlan(None, {site: state.names for site, state in states.items()})


def _common_taps(synapse: Synapse) -> Taps | None:
    """Return the decays of a trace that is the derivative of every receiver's potential; `None` if there is none."""
    found: list[Taps] = []
    for neuron in synapse.receivers.values():
        dynamics, taps = neuron.dynamics, taps_of(neuron.dynamics)
        known = tuple(tap for tap in taps if number(tap) is not None)
        if len(known) < len(taps) or not (dynamics.linear and dynamics.soft_reset and dynamics.detached_reset):
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
