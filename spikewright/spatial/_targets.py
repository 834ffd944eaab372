"""Which neurons learn from which error: targets at the end of a network and at an intermediate layer."""

import math

from spikewright.errors import IncompatibleRule
from spikewright.network.wiring import Wiring
from spikewright.spatial._base import Route, TargetSpec
from spikewright.spatial.local import Local

OUTPUT, PENULTIMATE = "output", "penultimate"
"""Names among targets: the network's output, and what arrives at its readout."""


def target_specs(wiring: Wiring, local: Local | None, route: Route) -> dict[str, TargetSpec]:
    """Return the targets by name, with the neurons that learn from each directly.

    Args:
        wiring: Wiring of the network.
        local: Local learning, which may have a target of its own, or `None`.
        route: The target at the end of the network, "output" or "penultimate".

    Raises:
        IncompatibleRule: There is no such target.
    """
    learning = frozenset(site for site in wiring.neurons if wiring.is_sender(site))
    outputs = math.prod(wiring.output)
    components = outputs
    if route == PENULTIMATE:
        readouts = [synapse for synapse in wiring.synapses.values() if not synapse.receivers]
        if len(readouts) != 1 or len(readouts[0].weight) != 2 or not readouts[0].senders:
            raise IncompatibleRule(
                f"route='penultimate' takes errors from the input of the readout, but the network has {len(readouts)} "
                "readouts, or one that is not a linear layer behind neurons. Use route='output'."
            )
        components = readouts[0].weight[1]
        learning -= readouts[0].senders.keys()
    if local is None or local.intermediate is None:
        return {route: TargetSpec(components, learning)}
    sites, middle = list(wiring.shapes), local.middle(wiring)
    below = frozenset(sites[: sites.index(middle)]) & learning
    return {
        route: TargetSpec(components, learning - below if local.below == "only" else learning),
        middle: TargetSpec(outputs, below),
    }
