"""What learning costs, as far as a rule states it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from spikewright.metrics.operations import Operations, Work
from spikewright.solvers import Report
from spikewright.wiring import Wiring


@dataclass(frozen=True)
class Cost:
    """The cost of learning from one sequence, per sample, the simulation of the network left out.

    Attributes:
        operations: Of everything that finds gradients.
        feedback_parameters: Numbers that are kept, or transported, to carry errors back through layers.
    """

    operations: Operations
    feedback_parameters: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.operations + other.operations, max(self.feedback_parameters, other.feedback_parameters)
        )  # two passes of one rule carry errors back by the same numbers


@dataclass(frozen=True)
class Done:
    """What was done in one training step: the basis of a rule's statement of cost.

    Attributes:
        work: What each layer does in a step.
        wiring: Of the network.
        steps: Length of the sequence.
        report: Of the update, by rules that solve an equation.
    """

    work: Mapping[str, Work]
    wiring: Wiring
    steps: int
    report: Report | None = None

    @property
    def simulation(self) -> Operations:
        """Operations of running the network over the sequence."""
        return sum((w.times * w.forward for w in self.work.values()), Operations())

    @property
    def dense(self) -> float:
        """Products of an input and a weight in one step, zeros included."""
        return sum(w.dense for w in self.work.values())

    @property
    def backward(self) -> Operations:
        """Operations of one dense backward pass: gradients at weights, and at inputs where neurons sent them."""
        passes = {site: 1 + bool(self.wiring.synapses[site].senders) for site in self.work}
        return Operations(0, sum(passes[site] * w.dense for site, w in self.work.items()))

    @property
    def weights_behind_neurons(self) -> int:
        """Numbers that errors cross on their way back, if they go back by the forward weights."""
        crossed = {site: synapse for site, synapse in self.wiring.synapses.items() if synapse.senders}
        parts = {site: self.work[site].parts if site in self.work else 1 for site in crossed}
        return sum(parts[site] * math.prod(synapse.weight) for site, synapse in crossed.items())
