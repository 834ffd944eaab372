"""Evaluation of a network on a data set."""

from dataclasses import dataclass

import torch

from spikewright._util.trial import evaluating
from spikewright.data import Batches
from spikewright.losses import Loss
from spikewright.network import Network


@dataclass(frozen=True)
class Score:
    """Metrics of a network on a set of samples.

    Attributes:
        accuracy: Fraction of correctly classified samples, in [0, 1]; the class is the largest output averaged over
            time as the loss defines it.
        loss: Mean loss, any finite number.
        rates: Firing rate of each neuron layer, spikes per neuron and time step.
        samples: Number of samples, at least 1.
    """

    accuracy: float
    loss: float
    rates: dict[str, float]
    samples: int

    @property
    def mean_rate(self) -> float:
        """Mean firing rate over neuron layers."""
        return sum(self.rates.values()) / len(self.rates)


@torch.no_grad()
def evaluate(net: Network, batches: Batches, loss: Loss) -> Score:
    """Return accuracy, loss and firing rates of a network on all batches of an epoch.

    Runs in evaluation mode without gradients; the modes of all modules are restored.

    Args:
        net: `Network` to evaluate.
        batches: `Batches` to evaluate on; epoch 0 is used.
        loss: `Loss` to report; it also defines the accuracy.
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
