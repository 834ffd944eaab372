"""Hooks into a run: called at the weight of every layer, at every neuron, and at the output."""

from typing import ClassVar

from torch import Tensor

from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class Hooks:
    """Identity by default: a rule overrides the hooks it needs and starts its run with them.

    Attributes:
        checks_answers: True if `on_weight` returns only what it has checked; a run checks the others once.
    """

    checks_answers: ClassVar[bool] = False

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        """Return what is transmitted, where the weight gradient is taken, and which weights carry errors back.

        Args:
            site: Name of the layer's call.
            operation: What the layer does.
            x: Input of the layer, `[time, batch, *feature]`.
            weight: Of the layer.
            carried: What this call carried out of the last chunk; empty at the start.
        """
        return SynapticInput(x), carried

    def on_current(self, site: str, current: Tensor) -> Tensor:
        """Return the current that neurons receive in place of `current`, `[time, batch, *feature]`."""
        return current

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        """Return what the layers behind neurons receive in place of `spikes`, `[time, batch, *feature]`."""
        return spikes

    def on_output(self, output: Tensor) -> Tensor:
        """Return the output of the run in place of `output`, `[time, batch, *output]`."""
        return output
