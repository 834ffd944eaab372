"""Inputs of a probe: a sample of one step among others, and the same sample in another row, among different ones."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spikewright.network.sites import Sites


@dataclass(frozen=True)
class Rows:
    """The samples of a pass.

    Attributes:
        count: Number of samples.
        places: Indices of those that are the compared sample.
    """

    count: int
    places: tuple[int, ...]

    def among(self, sample: Tensor, others: list[Tensor]) -> Tensor:
        """Return the sample among others, which are repeated as needed; the last of them stays the last."""
        count = self.count - len(self.places)
        left = iter([others[k % len(others)] for k in range(count - 1)] + others[-1:])
        return torch.cat([sample if place in self.places else next(left) for place in range(self.count)])


FIRST = Rows(4, (1,))
"""Rows of most passes: others on each side, and another row for the sample in reverse order."""
MOVED = Rows(5, (0, 4))
"""Rows of the pass that is compared: another number of rows, with the sample first and last."""
MANY, FEW_NUMBERS = 36, 2**20
"""Number of rows, and entries up to which it is used: enough to split operations on pieces of up to 32 rows."""


def moved_rows(batch: int, numbers: int) -> Rows:
    """Return the rows of the pass that is compared.

    Args:
        batch: Number of samples of a step of the run.
        numbers: Number of entries at layers and neurons, per sample and step.
    """
    count = MANY if MANY * numbers <= FEW_NUMBERS else min(max(batch, MOVED.count), MANY)
    return Rows(count, (0, count - 1))


BESIDE = FIRST
"""Rows of that pass if random numbers are drawn that cannot be repeated for a sample in another row."""


def same_sample(then: Tensor, now: Tensor, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """Return the parts of two tensors that belong to the sample, once per row; all if no axis holds samples.

    Args:
        then: Tensor of a first pass.
        now: The same tensor of another pass.
        rows: Rows of the other pass.
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


def probe_inputs(x: Tensor, sites: Sites, rows: Rows = MOVED) -> tuple[Tensor, Tensor]:
    """Return two inputs `[steps, samples, *feature]` that share one sample; the others differ, also in another order.

    All values are in, or near, the range of the sample.  Integers may be indices, so they are only moved.

    Args:
        x: Input of a run, `[time, batch, *feature]`.
        sites: Modules of the network; there are two steps if it has feedback.
        rows: Rows of the second input.
    """
    one, steps = x[0, 0].detach(), 2 if sites.recurrent else 1
    if sites.inputs is None:
        first, second = _others(one)
    else:
        drawn = [_others(part) for part in tree_leaves(sites.inputs.form.unpack(one))]
        first, second = ([_beside(each, one) for each in zip(*(of[k] for of in drawn))] for k in (0, 1))
    return _repeated(one, first, steps, FIRST), _repeated(one, second, steps, rows)


def _others(one: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    return _drawn(one) if one.dtype.is_floating_point else _moved(one, FIRST.count - 1)


def _beside(parts: tuple[Tensor, ...], like: Tensor) -> Tensor:
    """Return the parts of a sample as one, as the sample is packed."""
    return torch.cat([part.flatten().to(like.dtype) for part in parts])


def _repeated(one: Tensor, others: list[Tensor], steps: int, rows: Rows) -> Tensor:
    return rows.among(one[None], [other[None] for other in others]).expand(steps, rows.count, *one.shape).clone()


def _drawn(one: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return other samples near the lower and near the upper end of the range, so that extremes and ranks differ."""
    finite = one[torch.isfinite(one)]
    low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if high - low <= 1e-3 * max(abs(low), abs(high)):
        high = low + 0.3 * max(1.0, abs(low))
    source = torch.Generator().manual_seed(1)
    beyond = min(0.1 * (high - low), 0.9)  # below 1, for real numbers that stand for whole ones
    high, low = high + beyond, max(0.0, low - beyond) if low >= 0 else low - beyond
    drawn = 0.4 * (high - low) * torch.rand(2, FIRST.count - 1, *one.shape, generator=source, dtype=torch.float64)
    return list((low + drawn[0]).to(one)), list((high - drawn[1]).to(one))


def _moved(one: Tensor, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return different samples with the entries of one in other places."""
    flat, others = one.flatten(), [one]
    for k in range(min(len(flat), 4 * count)):
        for sample in (flat.roll(k + 1).view(one.shape), flat[k].expand(one.shape)):
            if len(others) <= 2 * count and not any(torch.equal(sample, o) for o in others):
                others.append(sample)
    others = others[1:]
    second = (others[count:] + others[:1] * count + [one] * count)[:count]
    return (others + [one] * count)[:count], second
