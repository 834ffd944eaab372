"""The energy estimate: how many operations a training step takes, forward and back, beside those of BPTT."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.losses import Loss
from spikewright.metrics.operations import Operations, SynapseCounter
from spikewright.network import Network
from spikewright.rules import BPTT, Rule, Update
from spikewright.text import aligned
from spikewright.trial import untouched


@dataclass(frozen=True)
class Energy:
    """Operations of one training step, per sample.

    Attributes:
        rule: The rule, as text.
        steps: Length of the sequence.
        forward: Of the simulation.
        backward: Of the rule's way back and its weight gradients.
        bptt: What BPTT needs for the same, simulation included.
        rates: Spikes per neuron and step of the simulation, by site.
        back_rates: Spikes per couple and step of a second, spiking phase, by site.
        feedback_numbers: Numbers kept, or transported, to carry errors back through layers.
    """

    rule: str
    steps: int
    forward: Operations
    backward: Operations
    bptt: Operations
    rates: dict[str, float]
    back_rates: dict[str, float]
    feedback_numbers: int

    @property
    def ratio(self) -> float:
        """Energy of the training step over that of BPTT."""
        return (self.forward + self.backward).picojoules / self.bptt.picojoules

    def table(self) -> str:
        """Return it as aligned text."""
        total = self.forward + self.backward
        named = {"simulation": self.forward, "learning": self.backward, "together": total, "BPTT": self.bptt}
        rows = [
            (name, f"{o.additions:.3g}", f"{o.multiplications:.3g}", f"{o.picojoules / 1e3:.4g} nJ")
            for name, o in named.items()
        ]
        head = ("per sample", "additions", "multiplications", "energy")
        lines = [f"{self.rule}, {self.steps} steps: {self.ratio:.3g} x BPTT", aligned([head, *rows])]
        lines.append(f"{self.feedback_numbers:,} numbers carry errors back through layers")
        for what, rates in (("spikes per neuron and step", self.rates), ("in the second phase", self.back_rates)):
            if rates:
                lines.append(f"{what}: " + ", ".join(f"{site} {rate:.2%}" for site, rate in rates.items()))
        return "\n".join(lines)


def energy(net: Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss) -> Energy:
    """Count the operations of a training step at the present weights; nothing is changed.

    Spikes cost an addition per synapse they reach, real numbers a multiplication; the step-by-step backward pass of
    BPTT is dense.  See `spikewright.metrics.operations` for the constants.

    Args:
        net: The network.
        rule: The rule.
        x: `[time, batch, *feature]`.
        y: Target, `[batch, ...]`.
        loss: The loss.
    """
    counter = SynapseCounter()
    x = x.detach()
    with untouched(net.module):
        with torch.no_grad():
            run = net.start(x, observers=(counter,))
            for step in x.split(1):
                run.advance(step)
        learner = rule.stand_in(net, x)
        updates: Sequence[Update] = list(learner.updates(net, x, y, loss))
    work, report = counter.work, updates[-1].report
    forward = sum((w.times * w.forward for w in work.values()), Operations())
    wiring = net.wiring(x)
    return Energy(
        rule=repr(rule),
        steps=len(x),
        forward=forward,
        backward=learner.operations(work, wiring, len(x), report),
        bptt=forward + BPTT().operations(work, wiring, len(x), None),
        rates=run.rates(),
        back_rates=report.rates if report is not None else {},
        feedback_numbers=learner.feedback_numbers(wiring),
    )
