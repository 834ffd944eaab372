"""Inputs of a probe: four samples of one step, and the same with other samples on both sides of the second."""

import torch
from torch import Tensor

ROWS = 4
"""Samples of a probe: some on each side of that which is compared, which is not where it is in reverse order."""


def middle(x: Tensor) -> Tensor:
    """Return the rows of the second sample, of an `x` whose first axis holds the samples of one step."""
    rows = len(x) // ROWS
    return x[rows : 2 * rows]


def probe_inputs(x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return two inputs `[steps, 4, *feature]` whose second sample is the same, and the others are not.

    Nor are they the same in another order, so that statistics differ.  All values are in, or near, its range;
    integers may mean something, so they are only moved about.

    Args:
        x: Input of a run, `[time, batch, *feature]`.
        steps: How often the step is repeated.
    """
    one = x[0, 0].detach()
    first, second = _drawn(one) if x.dtype.is_floating_point else _moved(one, ROWS - 1)
    return _repeated(one, first, steps), _repeated(one, second, steps)


def _repeated(one: Tensor, others: list[Tensor], steps: int) -> Tensor:
    return torch.stack([others[0], one, *others[1:]]).expand(steps, ROWS, *one.shape).clone()


def _drawn(one: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return others near the lower end of its range, and near the upper, so that extremes and ranks differ too."""
    finite = one[torch.isfinite(one)]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if high - low <= 1e-3 * max(abs(low), abs(high)):
        high = low + 0.3 * max(1.0, abs(low))
    source = torch.Generator().manual_seed(1)
    beyond = min(0.1 * (high - low), 0.9)  # less than one, for real numbers that stand for whole ones
    high, low = high + beyond, max(0.0, low - beyond) if low >= 0 else low - beyond
    drawn = 0.4 * (high - low) * torch.rand(2, ROWS - 1, *one.shape, generator=source, dtype=torch.float64)
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
