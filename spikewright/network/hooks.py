"""Hooks of a run: called at every layer, at every neuron, and at the output."""

from typing import ClassVar

from torch import Tensor

from spikewright.neurons import Neuron
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


class Hooks:
    """Hooks that a run calls; all are the identity by default.

    A rule overrides those it needs, and starts its run with them.

    Attributes:
        checks_answers: True if `on_weight` returns only what it has checked; a run checks the others once.
    """

    checks_answers: ClassVar[bool] = False

    def on_weight(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[SynapticInput, SiteState]:
        """Return what a layer transmits, with the tensors of its weight gradient, and the state of this call.

        Args:
            site: Name of the layer's call.
            operation: Linear operation of the layer.
            x: Input of the layer.  Tensor `[time, batch, *feature]`.
            weight: Weight of the layer.
            carried: State that this call returned for the last chunk, `{name: tensor}`; empty at the start.
        """
        return SynapticInput(x), carried

    def on_layer(self, site: str, operation: Operation, weight: Tensor, bias: Tensor | None, current: Tensor) -> Tensor:
        """Return the current that a layer sends in place of `current`.

        Args:
            site: Name of the layer's call.
            operation: Linear operation of the layer.
            weight: Weight of the layer.
            bias: Bias of the layer, if it has one.
            current: Output of the layer.  Tensor `[time, batch, *feature]`; the result has its shape.
        """
        return current

    def on_scan(
        self, site: str, neuron: Neuron, current: Tensor, state: SiteState, through_time: bool
    ) -> tuple[Tensor, SiteState]:
        """Return the output of neurons and their new state, as their `scan` does.

        Args:
            site: Name of the neuron's call.
            neuron: The neurons.
            current: What `on_current` returned.  Tensor `[time, batch, *feature]`.
            state: State of the neurons, `{name: tensor}`; empty at the start.
            through_time: True if gradients pass from one step to the next.
        """
        return neuron.scan(current, state, through_time)

    def on_current(self, site: str, current: Tensor) -> Tensor:
        """Return the current that neurons receive in place of `current`.

        Args:
            site: Name of the neuron's call.
            current: Input of the neurons.  Tensor `[time, batch, *feature]`; the result has its shape.
        """
        return current

    def on_spikes(self, site: str, spikes: Tensor) -> Tensor:
        """Return the spikes that the layers behind neurons receive in place of `spikes`.

        Args:
            site: Name of the neuron's call.
            spikes: Output of the neurons.  Tensor `[time, batch, *feature]`; the result has its shape.
        """
        return spikes

    def on_output(self, output: Tensor) -> Tensor:
        """Return the output of the run in place of `output`.

        Args:
            output: Output of the network.  Tensor `[time, batch, *output]`; the result has its shape.
        """
        return output
