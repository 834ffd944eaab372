"""The hooks of a rule that decides, layer by layer, what weight gradients are taken at."""

from collections.abc import Callable

from torch import Tensor

from spikewright.errors import NetworkError
from spikewright.network.hooks import Hooks
from spikewright.network.wiring import Synapse, Wiring
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput, check_arrival
from spikewright.temporal import SiteState

OnWeight = Callable[[Synapse, Tensor, SiteState], tuple[SynapticInput, SiteState]]
"""(layer, its input `[time, batch, *feature]`, carried) -> what is transmitted, and what is carried on."""


class WeightHooks(Hooks):
    """Calls `on_weight` with the layer's place in the network.

    Args:
        on_weight: Function or method of a rule.
        wiring: Wiring of the network.
    """

    checks_answers = True

    def __init__(self, on_weight: OnWeight, wiring: Wiring) -> None:
        self._on_weight, self._wiring = on_weight, wiring
        self._seen: set[str] = set()

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        if site not in self._wiring.synapses:
            raise NetworkError(
                f"'{site}' was called, but not when the network was probed with one step of three samples. The set of "
                "layers a forward calls must not depend on the data."
            )
        answer = self._on_weight(self._wiring.synapses[site], x, carried)
        if site in self._seen:
            return answer
        self._seen.add(site)  # what a rule returns is checked once per sequence and layer
        owner = getattr(self._on_weight, "__self__", self._on_weight)
        return check_arrival(owner, answer, operation, x, weight)
