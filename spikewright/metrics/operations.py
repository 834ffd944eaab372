r"""Counting operations: additions that a spike causes, and multiplications that real numbers need.

Energies are those usual in the field, for 32-bit arithmetic at 45 nm: 0.9 pJ for an addition and 4.6 pJ for a
multiplication with addition (Horowitz, ISSCC 2014).  They leave out memory access: they compare, they do not predict.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from spikewright._util.real_numbers import as_real

if TYPE_CHECKING:
    from spikewright.synapses.operations import Operation

ADDITION_PJ = 0.9
MULTIPLICATION_PJ = 4.6


@dataclass(frozen=True)
class Operations:
    """Operations per sample.

    Attributes:
        additions: Synaptic operations: one for each spike and synapse it reaches.
        multiplications: Multiplications, each with an addition.

    >>> (Operations(10, 0) + 2 * Operations(0, 1)).picojoules
    18.2
    """

    additions: float = 0.0
    multiplications: float = 0.0

    @property
    def picojoules(self) -> float:
        """Their energy."""
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
    """What one synapse does in one step, per sample, averaged over a sequence.

    Attributes:
        dense: Products of an input and a weight, zeros included, those of padding too; complex numbers are counted as
            the real ones that they are made of.
        active: Share of its input that is not zero.
        spiking: All of the rest is one value, so that a product is an addition of a weight.
        times: Steps that were seen.
        inputs: Numbers that its input is made of.
        parts: Real numbers that each of its weights is made of: 2 if they are complex.
    """

    dense: float
    active: float
    spiking: bool
    times: int = 1
    inputs: int = 0
    parts: int = 1

    @property
    def forward(self) -> Operations:
        """What transmitting costs: additions where spikes arrive, multiplications where real numbers do."""
        return Operations(self.active * self.dense) if self.spiking else Operations(0, self.dense)


class SynapseCounter:
    """An observer that counts the work of every synapse in a run that goes step by step.

    Args:
        samples: Of a step; `None` where every row of a step is one.
    """

    def __init__(self, samples: int | None = None) -> None:
        self._samples = samples
        self._seen: dict[str, list[Work]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Neurons are left out: a few operations each, against hundreds of synapses."""

    def synapse(self, site: str, operation: "Operation", x: Tensor, weight: Tensor, current: Tensor) -> None:
        """See a step: `x` and `current` are `[batch * row, *feature]`."""
        samples = self._samples or len(x)
        # An entry of the one meets a row of the weight in every product that it has part in.
        rows = x if getattr(operation, "transposed", False) else current
        filled = x != 0
        values = x[filled]
        spiking = values.numel() == 0 or bool((values == values[0]).all())
        parts, products = 1 + weight.is_complex(), 1
        if weight.is_complex():  # real numbers on their way through complex weights need half of the products
            products = 4 if x.is_complex() and bool(x.imag.any()) else 2
        dense = products * rows.numel() // samples * weight[0].numel()
        work = Work(dense, float(filled.double().mean()), spiking, inputs=as_real(x).numel() // samples, parts=parts)
        self._seen.setdefault(site, []).append(work)

    @property
    def work(self) -> dict[str, Work]:
        """By site of the synapse."""
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
