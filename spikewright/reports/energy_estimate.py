"""The energy estimate: how many operations a training step takes, forward and back, beside those of BPTT."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.arguments import check_tensor
from spikewright._util.text import aligned
from spikewright._util.trial import untouched
from spikewright.losses import Loss
from spikewright.metrics.operations import Operations, SynapseCounter
from spikewright.network import Network
from spikewright.rules import BPTT, Done, Rule, Update
from spikewright.rules._base import fresh_copy


@dataclass(frozen=True)
class Energy:
    """Operations of one training step, per sample.

    Attributes:
        rule: The rule, as text.
        steps: Length of the sequence.
        forward: Of the simulation.
        backward: Of the rule's way back and its weight gradients; `None` if the rule does not state them.
        bptt: What BPTT needs for the same, simulation included.
        rates: Spikes per neuron and step of the simulation, by site.
        back_rates: Spikes per pair and step of a second, spiking phase, by site.
        feedback_parameters: Numbers kept, or transported, to carry errors back through layers; `None` if not stated.
    """

    rule: str
    steps: int
    forward: Operations
    backward: Operations | None
    bptt: Operations
    rates: dict[str, float]
    back_rates: dict[str, float]
    feedback_parameters: int | None

    @property
    def ratio(self) -> float | None:
        """Energy of the training step over that of BPTT; `None` if the rule does not state its own."""
        return None if self.backward is None else (self.forward + self.backward).picojoules / self.bptt.picojoules

    def table(self) -> str:
        """Return it as aligned text."""
        total = None if self.backward is None else self.forward + self.backward
        named = {"simulation": self.forward, "learning": self.backward, "together": total, "BPTT": self.bptt}
        rows = [(name, *(("not stated",) * 3 if o is None else _shown(o))) for name, o in named.items()]
        head = ("per sample", "additions", "multiplications", "energy")
        ratio = "cost not stated" if self.ratio is None else f"{self.ratio:.3g} x BPTT"
        lines = [f"{self.rule}, {self.steps} steps: {ratio}", aligned([head, *rows])]
        if self.feedback_parameters is not None:
            lines.append(f"{self.feedback_parameters:,} numbers carry errors back through layers")
        for what, rates in (("spikes per neuron and step", self.rates), ("in the second phase", self.back_rates)):
            if rates:
                lines.append(f"{what}: " + ", ".join(f"{site} {rate:.2%}" for site, rate in rates.items()))
        return "\n".join(lines)


def _shown(operations: Operations) -> tuple[str, str, str]:
    energy = f"{operations.picojoules / 1e3:.4g} nJ"
    return f"{operations.additions:.3g}", f"{operations.multiplications:.3g}", energy


def energy(net: Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss) -> Energy:
    """Count the operations of a training step at the present weights; nothing is changed.

    Spikes cost an addition per synapse they reach, real numbers a multiplication; the step-by-step backward pass of
    BPTT is dense.  Of learning, what is counted is what is needed: no gradients of parameters that are frozen, and none
    at layers in front of which nothing learns.  A convolution is counted as dense also where it meets its
    padding: products with those zeros count like products with inputs.  See `spikewright.metrics.operations` for the
    constants.

    Args:
        net: The network.
        rule: The rule.
        x: `[time, batch, *feature]`.
        y: Target, `[batch, ...]`.
        loss: The loss.
    """
    check_tensor("x", x, "[time, batch, *feature]")
    counter = SynapseCounter(x.shape[1])
    frozen = frozenset(name for name, p in net.module.named_parameters() if not p.requires_grad)
    x = x.detach()
    with untouched(net.module):
        with torch.no_grad():
            run = net.start(x, observers=(counter,))
            for step in x.split(1):
                run.advance(step)
        learner = fresh_copy(rule, net, x)
        updates: Sequence[Update] = list(learner.updates(net, x, y, loss))
    report = updates[-1].report
    done = Done(counter.work, net.wiring(x), len(x), report, frozen)
    stated, bptt = learner.cost(done), BPTT().cost(done)
    assert bptt is not None  # it states its cost
    return Energy(
        rule=repr(rule),
        steps=len(x),
        forward=done.simulation,
        backward=None if stated is None else stated.operations,
        bptt=done.simulation + bptt.operations,
        rates=run.rates(),
        back_rates=report.rates if report is not None else {},
        feedback_parameters=None if stated is None else stated.feedback_parameters,
    )
