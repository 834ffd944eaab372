r"""Counting operations: additions that a spike causes, and multiplications that real numbers need.

Energies are those usual in the field, for 32-bit arithmetic at 45 nm: 0.9 pJ for an addition and 4.6 pJ for a
multiplication with addition (Horowitz, ISSCC 2014).  They leave out memory access: they compare, they do not predict.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from spikewright._util.ranges import check_counts
from spikewright._util.real_numbers import as_real

if TYPE_CHECKING:
    from spikewright.synapses.operations import Operation

ADDITION_PJ = 0.9
MULTIPLICATION_PJ = 4.6


@dataclass(frozen=True)
class Operations:
    """Numbers of operations per sample; they add up, and scale by numbers from the left.

    Args:
        additions: Synaptic operations: one per spike and weight it meets.  Number, at least 0.  Default: 0.0.
        multiplications: Multiplications, each with an addition.  Number, at least 0.  Default: 0.0.

    >>> from spikewright.metrics import Operations
    >>> (Operations(10, 0) + 2 * Operations(0, 1)).picojoules
    18.2
    """

    additions: float = 0.0
    multiplications: float = 0.0

    @property
    def picojoules(self) -> float:
        """Energy in pJ: 0.9 per addition and 4.6 per multiplication."""
        return ADDITION_PJ * self.additions + MULTIPLICATION_PJ * self.multiplications

    @property
    def count(self) -> float:
        """Additions and multiplications together."""
        return self.additions + self.multiplications

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(self.additions + other.additions, self.multiplications + other.multiplications)

    def __rmul__(self, factor: float) -> "Operations":
        return Operations(factor * self.additions, factor * self.multiplications)


@dataclass(frozen=True)
class Work:
    """Work of one layer in one step, per sample, averaged over a sequence.

    Attributes:
        dense: Products of an input and a weight, zeros and padding included, at least 0; complex products count as the
            real ones they consist of.
        active: Share of the input that is not zero, in [0, 1].
        spiking: True if all entries that are not zero have one value, so that a product is an addition of a weight.
        times: Number of steps that were counted, at least 1. Default: 1.
        inputs: Number of real numbers in the input, at least 0. Default: 0.
        parts: Number of real numbers in each weight, at least 1: 2 for complex ones. Default: 1.
    """

    dense: float
    active: float
    spiking: bool
    times: int = 1
    inputs: int = 0
    parts: int = 1

    @property
    def forward(self) -> Operations:
        """Operations of the forward pass: additions for spikes, multiplications for real numbers."""
        return Operations(self.active * self.dense) if self.spiking else Operations(0, self.dense)


class SynapseCounter:
    """Observer that counts the work of every layer with a weight, in a run that advances one step at a time.

    Args:
        samples: Number of samples of a step.  Whole number, at least 1.  Default: None, every row is a sample.

    >>> from spikewright.metrics import SynapseCounter
    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF()))
    >>> counter = SynapseCounter(samples=5)
    >>> output, state = net.run(torch.rand(1, 5, 4), observers=(counter,))
    >>> counter.work["0"].dense
    32
    """

    def __init__(self, samples: int | None = None) -> None:
        check_counts("SynapseCounter", optional=True, samples=samples)
        self._samples = samples
        self._seen: dict[str, list[Work]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Count nothing: a neuron needs a few operations, against hundreds in its layer of weights."""

    def synapse(self, site: str, operation: "Operation", x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Count one step; `x` and `current` are `[batch * row, *feature]`."""
        samples = self._samples or len(x)
        # Every entry of these rows meets one row of the weight.
        rows = x if getattr(operation, "transposed", False) else current
        filled = x != 0
        values = x[filled]
        spiking = values.numel() == 0 or bool((values == values[0]).all())
        parts, products = 1 + weight.is_complex(), 1
        if weight.is_complex():  # real inputs need half of the products with complex weights
            products = 4 if x.is_complex() and bool(x.imag.any()) else 2
        dense = products * rows.numel() // samples * weight[0].numel()
        work = Work(dense, float(filled.double().mean()), spiking, inputs=as_real(x).numel() // samples, parts=parts)
        self._seen.setdefault(site, []).append(work)

    @property
    def work(self) -> dict[str, Work]:
        """Work of every layer, by name."""
        return {
            site: Work(
                max(one.dense for one in w),
                sum(one.active for one in w) / len(w),
                all(one.spiking for one in w),
                len(w),
                w[0].inputs,
                w[0].parts,
            )
            for site, w in self._seen.items()
        }
