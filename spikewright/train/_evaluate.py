"""Measuring a network on data it does not learn from."""

from dataclasses import dataclass

import torch

from spikewright._util.trial import evaluating
from spikewright.data import Batches
from spikewright.losses import Loss
from spikewright.network import Network


@dataclass(frozen=True)
class Score:
    """What a network does on a set of samples.

    Attributes:
        accuracy: Share of samples whose largest output, averaged over time as the loss says, is their class.
        loss: Mean of the loss.
        rates: Spikes per neuron and step, by site.
        samples: How many samples were seen.
    """

    accuracy: float
    loss: float
    rates: dict[str, float]
    samples: int

    @property
    def mean_rate(self) -> float:
        """Mean over sites of the firing rate."""
        return sum(self.rates.values()) / len(self.rates)


@torch.no_grad()
def evaluate(net: Network, batches: Batches, loss: Loss) -> Score:
    """Run every batch once, in evaluation mode, and score it.

    Args:
        net: The network; the modes of its parts are restored.
        batches: What to measure on.
        loss: The loss to report.
    """
    with evaluating(net):
        correct, lost, samples = 0, 0.0, 0
        rates: dict[str, float] = {}
        for x, y in batches.epoch(0):
            run = net.start(x)
            output = run.advance(x)
            correct += loss.correct(output, y)
            lost += float(loss(output, y, len(x))) * len(y)
            samples += len(y)
            for site, rate in run.rates().items():
                rates[site] = rates.get(site, 0.0) + rate * len(y)
        return Score(correct / samples, lost / samples, {s: r / samples for s, r in rates.items()}, samples)
