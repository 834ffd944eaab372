"""Evaluation of a network on batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.randomness import keyed_generator
from spikewright._util.share import Share, sharing
from spikewright._util.text import counted
from spikewright._util.trial import evaluating
from spikewright.errors import InputError
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.train.job import Source
from spikewright.train.progress import Sum, add_up, mean_of
from spikewright.train.source import batch_size, first_tensor

Measures = Mapping[str, Callable[[Any, Any], Sum]]
"""Functions by name, of outputs `[time, batch, *feature]` and targets; they return a sum and its number of terms."""


@dataclass(frozen=True)
class Score:
    """Metrics of a network on a set of samples.

    Attributes:
        accuracy: Fraction of correctly classified samples, in [0, 1], without those whose label the criterion ignores;
            the class is the largest output averaged over time as the loss defines it.
        loss: Mean loss, any finite number, as that of one batch of all samples.
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
    return {"accuracy": lambda output, y: (loss.correct(output, y), loss.labelled(y))}


def weight_of(loss: Loss, output: Any, y: Any) -> float:
    """Return the weight of a batch in a mean of the loss over batches."""
    if isinstance(output, Tensor) and isinstance(y, Tensor):
        return loss.weight(output, y)
    return first_tensor(output).shape[1]


@torch.no_grad()
def means_over(
    net: Network, batches: Source, loss: Loss, measures: Measures, seed: int | None = None
) -> tuple[dict[str, float], dict[str, float], int]:
    """Return means over samples, of loss and measures by name and of firing rates by layer, and the number of samples.

    Args:
        net: `Network` to evaluate, in evaluation mode and without gradients.
        batches: Source of batches; epoch 0 is used.
        loss: `Loss`.
        measures: Measures to add to the loss.
        seed: Seed of noise, which is then the same at each evaluation and in all processes. Default: None, the global
            generator.

    Raises:
        InputError: The criterion ignores the labels of all samples.
    """
    samples, sums, rates = 0, dict[str, Sum](), dict[str, float]()
    with evaluating(net):
        for index, batch in enumerate(batches.epoch(0)):
            x, y = batch
            count = batch_size(batch)
            draws = None if seed is None else keyed_generator(seed, "evaluation", index)
            with sharing(Share(count, draws=draws)):
                run = net.start(x)
                output = run.advance(x)
                weight = weight_of(loss, output, y)
                lost = float(loss(output, y, first_tensor(x).shape[0])) * weight if weight else 0.0
            add_up(sums, {"loss": (lost, weight), **measured(measures, output, y)})
            for site, rate in run.rates().items():
                rates[site] = rates.get(site, 0.0) + rate * count
            samples += count
    means = {name: mean for name, total in sums.items() if (mean := mean_of(total)) is not None}
    if "loss" not in means:
        raise InputError(
            f"{loss} was to be evaluated on {counted(samples, 'sample')}, but its criterion ignores the labels of all. "
            "A mean over none is no number. Give samples with labels, or no data to evaluate on."
        )
    return (
        means,
        {site: rate / samples for site, rate in rates.items()},
        samples,
    )


def measured(measures: Measures, output: Any, y: Any) -> dict[str, Sum]:
    """Return the measures of outputs, summed over samples, and the numbers of these."""
    return {name: measure(output, y) for name, measure in measures.items()}
