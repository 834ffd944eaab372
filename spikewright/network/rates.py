r"""Mean currents and mean outputs of a simulation, which rules that learn from rates use.

The mean of a sequence at a neuron of leak :math:`\lambda` weighs step t by :math:`\lambda^{T-t}`, normalised by the sum
:math:`Z` of the weights; without leak it is the plain mean.
"""

from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor, nn

from spikewright._util.lengths import Lengths
from spikewright.kernels.rate import accumulate
from spikewright.neurons import Neuron
from spikewright.temporal import State, is_static


class Mean:
    """The weighted mean of a sequence that arrives in chunks.

    Args:
        leak: Weight of a step relative to the next; a tensor must broadcast to `[batch, *feature]`.
        lengths: Own lengths of the sequences of a padded batch, at whose ends the means are taken.  Default: None, all
            steps belong to them.
    """

    def __init__(self, leak: float | Tensor = 1.0, lengths: Lengths | None = None) -> None:
        self._leak, self._lengths = leak, lengths
        self._total: Tensor | None = None
        self._weight: float | Tensor = 0.0
        self.steps = 0

    def add(self, x: Tensor) -> None:
        """Add the next steps, `[time, batch, *feature]`."""
        if self._lengths is not None:
            self._add_own(x, self._lengths)
            return
        left, weight = self._leak ** len(x), sum_of_weights(self._leak, len(x))
        if not is_static(x):
            self._total = accumulate(x, self._total, self._leak)
        elif self._total is None:
            self._total = x[0] * weight
        else:
            self._total = self._total * left + x[0] * weight
        self._weight = self._weight * left + weight
        self.steps += len(x)

    def _add_own(self, x: Tensor, lengths: Lengths) -> None:
        weights = lengths.weights(x, self._leak, self.steps)
        added = (weights * lengths.masked(x, self.steps)).sum(0)
        self._total = added if self._total is None else self._total + added
        self._weight = self._weight + weights.sum(0)
        self.steps += len(x)

    @property
    def value(self) -> Tensor:
        """The mean of the steps so far, `[batch, *feature]`."""
        assert self._total is not None  # a sequence has at least one step
        return self._total / self._weight


@overload
def sum_of_weights(leak: float, steps: int) -> float: ...
@overload
def sum_of_weights(leak: float | Tensor, steps: int) -> float | Tensor: ...
def sum_of_weights(leak: float | Tensor, steps: int) -> float | Tensor:
    """Return the sum of `leak**age` over the steps of a sequence."""
    if isinstance(leak, Tensor):
        return torch.stack([leak**age for age in range(steps)]).sum(0)
    return float(steps) if leak == 1 else (1 - leak**steps) / (1 - leak)


def mean(x: Tensor, leak: float | Tensor, lengths: Lengths | None = None) -> Tensor:
    """Return the weighted mean of a whole sequence `[time, batch, *feature]`, or of the own steps of each sample."""
    total = Mean(leak, lengths)
    total.add(x)
    return total.value


def of_samples(x: Tensor, samples: Tensor) -> Tensor:
    """Return the rows of `x`, `[batch * rows, *feature]`, of the samples in a mask `[batch]`."""
    return x[samples.repeat_interleave(len(x) // len(samples))]


@dataclass(frozen=True)
class Rate:
    """Rates of one neuron layer over a sequence; every mean is `[batch, *feature]`, or `[batch * rows, *feature]`.

    Attributes:
        current: Mean input.
        output: Mean output.
        plain: Mean output with equal weights of the steps, if it was recorded.
        steps: Number of steps.
    """

    current: Tensor
    output: Tensor
    plain: Tensor
    steps: int

    def of(self, samples: Tensor) -> "Rate":
        """Return the rates of the samples in a mask `[batch]`."""
        current, output, plain = (of_samples(x, samples) for x in (self.current, self.output, self.plain))
        return Rate(current, output, plain, self.steps)


@dataclass(frozen=True)
class Rates:
    """Rates of a simulation.

    Attributes:
        neurons: Rates of every neuron layer, by name.
        sent: Mean output of the source of every feedback connection, `[batch, *feature]`, by name of the connection.
        masks: State of dropout, by name.
    """

    neurons: dict[str, Rate]
    sent: dict[str, Tensor]
    masks: State

    def of(self, samples: Tensor) -> "Rates":
        """Return the rates of the samples in a mask `[batch]`."""
        return Rates(
            {site: rate.of(samples) for site, rate in self.neurons.items()},
            {site: of_samples(value, samples) for site, value in self.sent.items()},
            {
                site: {name: of_samples(value, samples) for name, value in masks.items()}
                for site, masks in self.masks.items()
            },
        )


class Record:
    """Records the rates of a simulation.

    Args:
        leak: Weight of a step relative to the next, for sources of feedback that are not neuron layers.
        plain: True records plain means of outputs too, where they differ from the weighted ones.
        lengths: Own lengths of the sequences of a padded batch.  Default: None, all steps belong to them.
    """

    def __init__(self, leak: float | Tensor = 1.0, plain: bool = False, lengths: Lengths | None = None) -> None:
        self._leak, self._plain, self._lengths = leak, plain, lengths
        self._means: dict[str, tuple[Mean, Mean, Mean]] = {}
        self._sent: dict[str, Mean] = {}

    @torch.no_grad()
    def neuron(self, site: str, neuron: Neuron, current: Tensor, output: Tensor) -> None:
        """Record input and output of a neuron layer, `[time, batch, *feature]`."""
        if site not in self._means:
            leak = _decay(neuron, current)
            weighted = Mean(leak, self._lengths)
            leaky = isinstance(leak, Tensor) or leak != 1
            plain = Mean(1.0, self._lengths) if self._plain and leaky else weighted
            self._means[site] = Mean(leak, self._lengths), weighted, plain
        entered, left, plain = self._means[site]
        entered.add(current)
        left.add(output)
        if plain is not left:
            plain.add(output)

    @torch.no_grad()
    def source(self, name: str, module: nn.Module, output: Tensor) -> None:
        """Record the output of the source of a feedback connection, `[time, batch, *feature]`."""
        if name not in self._sent:
            leak = _decay(module, output) if isinstance(module, Neuron) else self._leak
            self._sent[name] = Mean(leak, self._lengths)
        self._sent[name].add(output)

    def rates(self, state: State) -> Rates:
        """Return the rates so far, with the dropout masks of the given state."""
        neurons = {
            site: Rate(current.value, output.value, plain.value, current.steps)
            for site, (current, output, plain) in self._means.items()
        }
        masks = {site: values for site, values in state.items() if values.keys() == {"mask"}}
        return Rates(neurons, {name: mean.value for name, mean in self._sent.items()}, masks)


def _decay(neuron: Neuron, current: Tensor) -> float | Tensor:
    """Return the weight of a step relative to the next; 1 for a neuron without a decay."""
    decay = neuron.decay_at(current)
    return 1.0 if decay is None else decay
