"""Lateral weights and what they do to gradients, by explicit loops over rows, patches and directions.

Equations: `y = H x`, `dH = <y (x - H^T y)^T>` clamped, an exponential average of it, and `dW = sum g (p - H^T H p)^T`
with p an input or a patch (Xiao et al., ICLR 2024, arXiv 2402.11984).
"""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

Burst = Callable[[Tensor], Tensor]


def rest(x: Tensor, rows: Tensor, burst: Burst = lambda y: y) -> Tensor:
    """What the lateral neurons of `rows` leave of one input."""
    return x - sum((burst((row * x).sum()) * row for row in rows), torch.zeros_like(x))


def learned(
    old: Tensor, new: Tensor, momentum: Tensor, x: Tensor, rate: float, iterations: int = 5, burst: Burst = lambda y: y
) -> tuple[Tensor, Tensor]:
    """The new rows and their momentum after some steps on the inputs `x`, with the published 0.9 and 10."""
    for _ in range(iterations):
        rows, change = torch.cat([old, new]), torch.zeros_like(new)
        for one in x:
            change += torch.stack([burst((row * one).sum()) * rest(one, rows, burst) for row in new])
        momentum = 0.9 * momentum + 0.1 * (change / len(x)).clamp(-10, 10)
        new = new + rate * momentum
    return new, momentum


def patches(
    x: Tensor, side: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """What outputs of a convolution over `x` `[batch, channel, *size]` see, `[group, batch, position, inputs]`."""
    channels, axes = x.shape[1] // groups, range(x.dim() - 2)
    span = [dilation[a] * (side[a] - 1) + 1 for a in axes]
    counts = [(x.shape[2 + a] + 2 * padding[a] - span[a]) // stride[a] + 1 for a in axes]
    found = x.new_zeros(groups, len(x), *counts, channels, *side)
    for place, tap in product(product(*map(range, counts)), product(*map(range, side))):
        at = [place[a] * stride[a] - padding[a] + tap[a] * dilation[a] for a in axes]
        if all(0 <= at[a] < x.shape[2 + a] for a in axes):
            for group, channel in product(range(groups), range(channels)):
                found[(group, slice(None), *place, channel, *tap)] = x[(slice(None), group * channels + channel, *at)]
    return found.flatten(2 + len(axes)).flatten(2, 1 + len(axes))


def weight_gradient(delta: Tensor, seen: Tensor, rows: Tensor) -> Tensor:
    """Gradient `[channel, inputs]` for errors `[batch, channel, position]` at what outputs saw, kept out of `rows`."""
    each = delta.unflatten(1, (len(seen), -1))
    found = delta.new_zeros(len(seen), each.shape[2], seen.shape[-1])
    for group, batch, place in product(*map(range, seen.shape[:3])):
        found[group] += torch.outer(each[batch, group, :, place], rest(seen[group, batch, place], rows))
    return found.flatten(0, 1)
