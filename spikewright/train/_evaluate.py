"""Evaluation of a network on batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from spikewright._util.trial import evaluating
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.train.job import Source
from spikewright.train.source import batch_size, first_tensor

Measures = Mapping[str, Callable[[Any, Any], float]]
"""Functions of outputs `[time, batch, *feature]` and targets that return a sum over samples, by name."""


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
        """Mean firing rate over neuron layers; 0 for a network without neurons."""
        return mean_rate(self.rates)


def mean_rate(rates: Mapping[str, float]) -> float:
    """Return the mean of firing rates over neuron layers; 0 without any."""
    return sum(rates.values()) / max(1, len(rates))


def evaluate(net: Network, batches: Source, loss: Loss) -> Score:
    """Return accuracy, loss and firing rates of a network on all batches of an epoch.

    Runs in evaluation mode without gradients; the modes of all modules are restored.

    Args:
        net: `Network` to evaluate.
        batches: Batches to evaluate on, such as `spikewright.data.Batches`; epoch 0 is used.
        loss: `Loss` to report; it also defines the accuracy.
    """
    means, rates, samples = means_over(net, batches, loss, correct(loss))
    return Score(means["accuracy"], means["loss"], rates, samples)


def correct(loss: Loss) -> Measures:
    """Return the measure that counts correctly classified samples."""
    return {"accuracy": loss.correct}


@torch.no_grad()
def means_over(
    net: Network, batches: Source, loss: Loss, measures: Measures
) -> tuple[dict[str, float], dict[str, float], int]:
    """Return means over samples, of loss and measures by name and of firing rates by layer, and the number of samples.

    Args:
        net: `Network` to evaluate, in evaluation mode and without gradients.
        batches: Source of batches; epoch 0 is used.
        loss: `Loss`.
        measures: Measures to add to the loss.
    """
    samples, sums, rates = 0, dict[str, float](), dict[str, float]()
    with evaluating(net):
        for batch in batches.epoch(0):
            x, y = batch
            count, run = batch_size(batch), net.start(x)
            output = run.advance(x)
            lost = float(loss(output, y, first_tensor(x).shape[0])) * count
            for name, value in {"loss": lost, **measured(measures, output, y)}.items():
                sums[name] = sums.get(name, 0.0) + value
            for site, rate in run.rates().items():
                rates[site] = rates.get(site, 0.0) + rate * count
            samples += count
    return (
        {name: value / samples for name, value in sums.items()},
        {site: rate / samples for site, rate in rates.items()},
        samples,
    )


def measured(measures: Measures, output: Any, y: Any) -> dict[str, float]:
    """Return the measures of outputs, summed over samples."""
    return {name: float(measure(output, y)) for name, measure in measures.items()}
