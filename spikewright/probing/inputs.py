"""Inputs of a probe: three samples of one step, and the same with other samples on both sides of the second."""

import torch
from torch import Tensor

ROWS = 3
"""Samples of a probe: one on each side of that which is compared, as a module may look forward or back."""


def middle(x: Tensor) -> Tensor:
    """Return the rows of the second sample, of an `x` whose first axis holds three samples of one step."""
    rows = len(x) // ROWS
    return x[rows : 2 * rows]


def probe_inputs(x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return two inputs `[steps, 3, *feature]` whose second sample is the same, and the others are not.

    The values are those of `x`, as far as there are different ones; integers may mean something, so they are only
    moved about.

    Args:
        x: Input of a run, `[time, batch, *feature]`.
        steps: How often the step is repeated.
    """
    one = x[0, 0].detach()
    moved = (one.flatten().roll(k).view(one.shape) for k in (1, 2) if one.numel())
    others: list[Tensor] = []
    for sample in (*x[0, 1:3].detach(), *moved, _changed(one, 1), _changed(one, 2), one, one):
        if len(others) < 2 and (sample is one or not any(torch.equal(sample, o) for o in (one, *others))):
            others.append(sample)
    before, after = others
    first = torch.stack([before, one, after]).expand(steps, ROWS, *one.shape)
    return first.clone(), first.flip(1)


def _changed(x: Tensor, seed: int) -> Tensor:
    if not x.dtype.is_floating_point:
        return x
    source = torch.Generator().manual_seed(seed)
    return x + 0.1 * torch.randn(x.shape, generator=source, dtype=torch.float64).to(x)
