r"""Counting operations: additions that a spike causes, and multiplications that real numbers need.

Energies are those usual in the field, for 32-bit arithmetic at 45 nm: 0.9 pJ for an addition and 4.6 pJ for a
multiplication with addition (Horowitz, ISSCC 2014).  They leave out memory access: they compare, they do not predict.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spikewright._util.ranges import check_counts
from spikewright._util.real_numbers import as_real

if TYPE_CHECKING:
    from spikewright.synapses.operations import Operation

ADDITION_PJ = 0.9
MULTIPLICATION_PJ = 4.6
_LARGEST = 256
"""Largest number of the smallest spike count that is looked for."""


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
    """Work of one layer, or of another product of tensors, in one step, per sample, averaged over a sequence.

    Attributes:
        dense: Products of an input and a weight, zeros included and padding not, at least 0; complex products count as
            the real ones they consist of.
        active: Share of the input that is not zero, in [0, 1].
        spiking: True if the input consists of spikes, or of numbers of spikes times one constant, so that a product is
            as many additions of a weight.
        times: Number of steps that were counted, at least 1. Default: 1.
        inputs: Number of real numbers in the input, at least 0. Default: 0.
        parts: Number of real numbers in each weight, at least 1: 2 for complex ones. Default: 1.
        additions: Spikes, each times the weights it meets, at least 0; 0 if not `spiking`. Default: 0.0.
        unit: Value of one spike in the input, at least 0; 0 if there is none, or not `spiking`. Default: 0.0.
    """

    dense: float
    active: float
    spiking: bool
    times: int = 1
    inputs: int = 0
    parts: int = 1
    additions: float = 0.0
    unit: float = 0.0

    @property
    def forward(self) -> Operations:
        """Operations of the forward pass: additions for spikes, multiplications for real numbers."""
        return Operations(self.additions) if self.spiking else Operations(0, self.dense)


def averaged(steps: Iterable[Work], dtype: torch.dtype = torch.float32) -> Work:
    """Return the work of a sequence from that of its steps, at least one.

    A spike has the same value in all steps, so the additions of each are counted in the unit that they have in common;
    without one the inputs are no spikes.

    Args:
        steps: Work of the steps.
        dtype: Type of their inputs, within whose rounding values of a spike are the same.
    """
    found = list(steps)
    units = [one.unit for one in found if one.unit]
    common = common_unit(torch.tensor(units, dtype=torch.float64), dtype) if units else 0.0
    spiking = common is not None and all(one.spiking for one in found)
    unit = common if common is not None and spiking else 0.0
    return Work(
        max(one.dense for one in found),
        sum(one.active for one in found) / len(found),
        spiking,
        len(found),
        found[0].inputs,
        found[0].parts,
        sum(one.additions * round(one.unit / unit) for one in found) / len(found) if unit else 0.0,
        unit,
    )


def spike_unit(x: Tensor, of_spikes: bool = False) -> float | None:
    """Return the value of one spike in a tensor of spikes, 0 if it holds none; `None` if it holds other numbers.

    Entries are spikes if all that are not zero have one value.  Behind pooling and sums they are numbers of spikes
    times one constant, the largest of which all are whole multiples.

    Args:
        x: The tensor.
        of_spikes: True if `x` is computed from spikes without weights, so that whole multiples of one constant, of
            either sign, are numbers of spikes. Default: False.

    >>> import torch
    >>> pooled = torch.tensor([0.0, 0.25, 0.75])
    >>> spike_unit(pooled), spike_unit(pooled, of_spikes=True)
    (None, 0.25)
    """
    values = x[x != 0]
    if values.numel() == 0:
        return 0.0
    if bool((values == values[0]).all()):
        return float(values[0].abs())
    if not of_spikes or x.is_complex():
        return None
    return common_unit(values.abs().double().unique(), x.dtype)


def common_unit(sizes: Tensor, dtype: torch.dtype) -> float | None:
    """Return the largest number of which all of some sizes are whole multiples but for rounding; `None` without one.

    Args:
        sizes: Numbers above 0 in float64, at least one.
        dtype: Type in which they were computed.
    """
    sizes = sizes.sort().values
    error = 4 * torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    for smallest in range(1, _LARGEST + 1):
        counts = sizes * (smallest / sizes[0])
        whole = counts.round()
        if float(whole[-1]) * error > 0.25:  # every number would pass
            return None
        if bool(((counts - whole).abs() <= error * whole).all()):
            return float(sizes[0]) / smallest
    return None


def real_products(x: Tensor, weight: Tensor) -> int:
    """Return how many products of real numbers one product of an entry of `x` and one of `weight` is."""
    if not weight.is_complex():
        return 1
    return 4 if x.is_complex() and bool(x.imag.any()) else 2


class SynapseCounter:
    """Observer that counts the work of every layer with a weight, in a run that advances one step at a time.

    Args:
        samples: Number of samples of a step.  Whole number, at least 1.  Default: None, every row is a sample.
        of_spikes: Function that tells of the input of a layer whether it is computed from spikes without weights.
            Default: None, which holds of none; then numbers of spikes behind pooling count as real numbers.
        filled: Function that returns which entries of the input of a layer are not padding, a tensor of ones and zeros
            that expands to the input's shape, or `None` for all.  Default: None, all.
        unit: Function that returns the value of one spike in the input of a layer where it is known, or `None`.
            Default: None, it is taken from the values.

    >>> from spikewright.metrics import SynapseCounter
    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF()))
    >>> counter = SynapseCounter(samples=5)
    >>> output, state = net.run(torch.rand(1, 5, 4), observers=(counter,))
    >>> counter.work["0"].dense
    32.0
    """

    def __init__(
        self,
        samples: int | None = None,
        of_spikes: Callable[[Tensor], bool] | None = None,
        filled: Callable[[Tensor], Tensor | None] | None = None,
        unit: Callable[[Tensor], float | None] | None = None,
    ) -> None:
        check_counts("SynapseCounter", optional=True, samples=samples)
        self._samples, self._of_spikes, self._filled, self._unit = samples, of_spikes, filled, unit
        self._seen: dict[str, list[Work]] = {}
        self._dtypes: dict[str, torch.dtype] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Count nothing: a neuron needs a few operations, against hundreds in its layer of weights."""

    def potential(self, site: str, potential: Tensor) -> None:
        """Count nothing."""

    def synapse(self, site: str, operation: "Operation", x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Count one step; `x` and `current` are `[batch * row, *feature]`."""
        x, weight = x.detach(), weight.detach()
        samples = self._samples or len(x)
        unit = None if self._unit is None else self._unit(x)
        if unit is None:
            unit = spike_unit(x, self._of_spikes is not None and self._of_spikes(x))
        filled = None if self._filled is None else self._filled(x)
        ones = torch.ones_like(x, dtype=torch.float64) if filled is None else filled.double().expand(x.shape)
        products = real_products(x, weight) / samples
        work = Work(
            dense=products * operation.meets(ones, weight),
            active=float((x != 0).double().mean()),
            spiking=unit is not None,
            inputs=as_real(x).numel() // samples,
            parts=1 + weight.is_complex(),
            additions=products * operation.meets((x.abs().double() / unit).round(), weight) if unit else 0.0,
            unit=unit or 0.0,
        )
        self._seen.setdefault(site, []).append(work)
        self._dtypes[site] = x.dtype

    @property
    def work(self) -> dict[str, Work]:
        """Work of every layer, by name."""
        return {site: averaged(steps, self._dtypes[site]) for site, steps in self._seen.items()}
