"""Differentiation on spike representation as its authors' published code has it (Meng et al., arXiv 2205.00459).

Everything is `[time * batch, *feature]`, time-major. A neuron layer of threshold `h` reduces the errors of all steps to
one and returns the same to every step, from the representation `r` of its input:

    IF   charge u = v + I, sends h,                       input M G / T,       threshold sum(G [r > h]),
         M = [0 <= r <= h],                               G = sum_t g[t]
    LIF  charge u = b v + (1 - b) I, sends h / dt,        input M G / (tau T), threshold dt sum(G [r > h tau / dt]),
         M = [0 < r < h tau / dt],  b = exp(-dt / tau),   G = T sum_t w[t] g[t],  w[t] = b^(T-t) / sum_t b^(T-t)

For LIF that is no chain rule. The logits are already a mean with the weights `w`, so `G` has them twice, a factor
`kappa = T sum_t w[t]^2` on all gradients; and linear layers read the plain mean of what they receive.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles.machine import Criterion, Params


@dataclass(frozen=True)
class Kind:
    """The neurons of a network: spike where `u >= fraction * threshold`. IF without `dt`, with it LIF."""

    fraction: float = 0.5
    dt: float | None = None
    tau: float = 1.0

    @property
    def leak(self) -> float:
        return 1.0 if self.dt is None else math.exp(-self.dt / self.tau)

    def shares(self, steps: int) -> Tensor:
        """The weights `w[t]` of the representation; their sum is 1."""
        powers = self.leak ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
        return powers / powers.sum()


class Neurons(torch.autograd.Function):
    """A neuron layer with the backward pass of the reference."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, threshold: Tensor, steps: int, kind: Kind) -> Tensor:
        series = current.unflatten(0, (steps, -1))
        gain = 1.0 if kind.dt is None else 1 - kind.leak
        membrane, spikes = torch.zeros_like(series[0]), []
        for now in series:
            membrane = kind.leak * membrane + gain * now
            spikes.append((membrane >= kind.fraction * threshold).to(current.dtype))
            membrane = membrane - threshold * spikes[-1]
        ctx.save_for_backward(torch.einsum("t,t...->...", kind.shares(steps), series), threshold)
        ctx.steps, ctx.kind = steps, kind
        return torch.cat(spikes) * threshold / (kind.dt or 1.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rate, threshold = ctx.saved_tensors
        steps, kind, errors = ctx.steps, ctx.kind, upstream[0].unflatten(0, (ctx.steps, -1))
        if kind.dt is None:
            error, passes, above = errors.sum(0), (rate >= 0) & (rate <= threshold), rate > threshold
            current, change = passes * error / steps, (error * above).sum()
        else:
            error, top = steps * torch.einsum("t,t...->...", kind.shares(steps), errors), threshold * kind.tau / kind.dt
            current = ((rate > 0) & (rate < top)) * error / (kind.tau * steps)
            change = kind.dt * (error * (rate > top)).sum()
        return torch.cat([current] * steps), change, None, None


@dataclass(frozen=True)
class Stage:
    """A linear map of `[time * batch, *feature]` and the neurons it feeds.

    Args:
        apply: The map, e.g. `lambda p, x: F.linear(x, p["0.weight"], p["0.bias"])`.
        threshold: Name of the neurons' threshold, a parameter without dimensions.
        norm: Name of the affine parameters `NORM.weight` and `NORM.bias` of a normalisation between the two, over time
            and batch together, with the statistics of what passes.
    """

    apply: Callable[[Params, Tensor], Tensor]
    threshold: str
    norm: str | None = None


def run(stages: Sequence[Stage], params: Params, x: Tensor, kind: Kind) -> tuple[Tensor, list[Tensor]]:
    """Logits `[batch, *feature]`, the representation of the last layer, and what each layer sent `[time, batch, *]`."""
    steps, sent, flat = len(x), [], x.flatten(0, 1)
    for stage in stages:
        flat = stage.apply(params, flat)
        if stage.norm:
            scale, shift = params[f"{stage.norm}.weight"], params[f"{stage.norm}.bias"]
            flat = F.batch_norm(flat, None, None, scale, shift, training=True)
        flat = Neurons.apply(flat, params[stage.threshold], steps, kind)
        sent.append(flat.unflatten(0, (steps, -1)))
    return torch.einsum("t,t...->...", kind.shares(steps), sent[-1]), sent


def gradients(
    stages: Sequence[Stage], params: Params, x: Tensor, y: Tensor, criterion: Criterion, kind: Kind
) -> Params:
    """Gradient of `criterion(logits, y)` for the input `[time, batch, *feature]`, thresholds included."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    loss = criterion(run(stages, leaves, x, kind)[0], y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)))
