"""What takes part in a run: a word at every synapse, at every neuron, and at the output."""

from torch import Tensor

from spikewright.operations import Operation
from spikewright.synapse import Arrival
from spikewright.temporal import SiteState


class Part:
    """Changes nothing; what takes part in a run overrides the words it has something to say for."""

    def synapse(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[Arrival, SiteState]:
        """Say what is transmitted, where the weight gradient is taken, and which weights carry errors back.

        Args:
            site: Of the synapse.
            operation: What it does.
            x: What arrived, `[time, batch, *feature]`.
            weight: Of the synapse.
            carried: What the synapse carried out of the last chunk; empty at the start.
        """
        return Arrival(x), carried

    def current(self, site: str, current: Tensor) -> Tensor:
        """Return the current that neurons see, given what arrived at them, `[time, batch, *feature]`."""
        return current

    def emitted(self, site: str, spikes: Tensor) -> Tensor:
        """Return what the layers behind neurons see, given what they emitted, `[time, batch, *feature]`."""
        return spikes

    def output(self, output: Tensor) -> Tensor:
        """Return the output of the run, given what the network returned, `[time, batch, *output]`."""
        return output
