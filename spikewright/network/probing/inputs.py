"""Inputs of a probe: a sample of one step among others, and the same sample in another row, among yet others."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The samples of a pass.

    Attributes:
        count: How many there are.
        places: Which of them hold the sample that is compared with another pass, counted from 0.
    """

    count: int
    places: tuple[int, ...]

    def among(self, sample: Tensor, others: list[Tensor]) -> Tensor:
        """Put others around the sample, over and over again as many as are needed; the last of them stays the last."""
        count = self.count - len(self.places)
        left = iter([others[k % len(others)] for k in range(count - 1)] + others[-1:])
        return torch.cat([sample if place in self.places else next(left) for place in range(self.count)])


FIRST = Rows(4, (1,))
"""Of most passes: there are others on each side of the sample, which is elsewhere in reverse order."""
MOVED = Rows(5, (0, 4))
"""Of the pass that is compared with them: a number of rows, or being the first or the last, makes a difference too."""
MANY, FEW_NUMBERS = 36, 2**20
"""How many there are, if a step has as many, or if they are small: pieces of up to 32 rows are cut up by then."""


def moved_rows(batch: int, numbers: int) -> Rows:
    """Return the samples of that pass.

    Args:
        batch: Samples of a step of the run.
        numbers: What a step of a sample brings about: entries at layers and neurons.
    """
    count = MANY if MANY * numbers <= FEW_NUMBERS else min(max(batch, MOVED.count), MANY)
    return Rows(count, (0, count - 1))


BESIDE = FIRST
"""Of that pass where random numbers are drawn that cannot be shown to the sample wherever it is."""


def same_sample(then: Tensor, now: Tensor, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """Return what two tensors hold of the sample, once for each of its places; all where no axis holds samples.

    Args:
        then: Of a first pass.
        now: In its place in another pass.
        rows: Of that pass.
    """
    if then.dim() != now.dim() or not then.dim():
        return [(then, now)]
    differ = [axis for axis, (a, b) in enumerate(zip(then.shape, now.shape)) if a != b] if rows != FIRST else [0]
    if len(differ) != 1:
        return [(then, now)]
    (axis,), (place,) = differ, FIRST.places
    each, left = divmod(then.shape[axis], FIRST.count)
    if left or now.shape[axis] != each * rows.count:
        return [(then, now)]
    sample = then.narrow(axis, place * each, each)
    return [(sample, now.narrow(axis, place * each, each)) for place in rows.places]


def probe_inputs(x: Tensor, steps: int, rows: Rows = MOVED) -> tuple[Tensor, Tensor]:
    """Return two inputs `[steps, samples, *feature]` in which one sample is the same, and the others are not.

    Nor are they the same in another order, so that statistics differ.  All values are in, or near, its range;
    integers may mean something, so they are only moved about.

    Args:
        x: Input of a run, `[time, batch, *feature]`.
        steps: How often the step is repeated.
        rows: Samples of the second input.
    """
    one = x[0, 0].detach()
    first, second = _drawn(one) if x.dtype.is_floating_point else _moved(one, FIRST.count - 1)
    return _repeated(one, first, steps, FIRST), _repeated(one, second, steps, rows)


def _repeated(one: Tensor, others: list[Tensor], steps: int, rows: Rows) -> Tensor:
    return rows.among(one[None], [other[None] for other in others]).expand(steps, rows.count, *one.shape).clone()


def _drawn(one: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return others near the lower end of its range, and near the upper, so that extremes and ranks differ too."""
    finite = one[torch.isfinite(one)]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if high - low <= 1e-3 * max(abs(low), abs(high)):
        high = low + 0.3 * max(1.0, abs(low))
    source = torch.Generator().manual_seed(1)
    beyond = min(0.1 * (high - low), 0.9)  # less than one, for real numbers that stand for whole ones
    high, low = high + beyond, max(0.0, low - beyond) if low >= 0 else low - beyond
    drawn = 0.4 * (high - low) * torch.rand(2, FIRST.count - 1, *one.shape, generator=source, dtype=torch.float64)
    return list((low + drawn[0]).to(one)), list((high - drawn[1]).to(one))


def _moved(one: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return others with the entries of a sample, in other places, as far as that makes a difference."""
    flat, others = one.flatten(), [one]
    for k in range(min(len(flat), 4 * count)):
        for sample in (flat.roll(k + 1).view(one.shape), flat[k].expand(one.shape)):
            if len(others) <= 2 * count and not any(torch.equal(sample, o) for o in others):
                others.append(sample)
    others = others[1:]
    second = (others[count:] + others[:1] * count + [one] * count)[:count]
    return (others + [one] * count)[:count], second
