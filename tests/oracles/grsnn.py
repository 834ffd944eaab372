"""Spikes over a graph again: one message per edge, channel and step, nothing shared, autograd for the backward."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

TAU = 4.0
RHO = math.exp(-1 / TAU)
GAIN = math.e / TAU


class Fire(torch.autograd.Function):
    """A step with the slope of a steep sigmoid."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        s = torch.sigmoid(4 * ctx.saved_tensors[0])
        return grad * 4 * s * (1 - s)


def hard(x: Tensor) -> Tensor:
    return Fire.apply(x)


def smooth(x: Tensor) -> Tensor:
    return torch.sigmoid(4 * x)


def earlier(spikes: list[Tensor], step: int) -> Tensor:
    return spikes[step] if 0 <= step < len(spikes) else torch.zeros_like(spikes[0])


def trace(spikes: list[Tensor], step: int, mode: str) -> Tensor:
    """What a delay's gradient multiplies, at the step a message left."""
    if mode == "finite_difference":
        return earlier(spikes, step - 1) - earlier(spikes, step)
    if mode == "exact":
        return RHO * earlier(spikes, step - 1) - (1 - 1 / TAU) * earlier(spikes, step)
    total = torch.zeros_like(spikes[0])
    for k in range(step + 1):
        i = step - k
        total -= GAIN * (1 - (i + 1) / TAU) * math.exp(-i / TAU) * earlier(spikes, k)
    return total


def run(
    edges: Tensor,
    nodes: int,
    sources: Tensor,
    drive: Tensor,
    delays: Tensor,
    synapses: Callable[[Tensor, Tensor], Tensor],
    *,
    weights: Tensor | None = None,
    kept: Tensor | None = None,
    steps: int = 10,
    threshold: float = 2.0,
    decay: float = 0.95,
    mode: str = "exact",
    spike: Callable[[Tensor], Tensor] = hard,
    shift: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return how much and how early neurons fired, `[N, B, D]`, and the spikes of every step.

    `shift`, `[R, B, D]`, makes delays longer by a fraction of a step: a spike reaches its target in two shares, the
    response to which is that of a spike in between.
    """
    current = torch.zeros(nodes, *drive.shape, dtype=drive.dtype)
    injected = current.index_put((sources, torch.arange(len(sources))), drive, accumulate=True)
    membrane, spikes = torch.zeros_like(current), []
    for t in range(steps):
        if t:
            arrived = torch.zeros_like(current)
            for e, (source, relation, target) in enumerate(edges.tolist()):
                rounded = delays[relation].detach().round()
                message = torch.zeros_like(drive)
                for delay in rounded.unique().tolist():
                    step = t - 1 - int(delay)
                    sent = earlier(spikes, step)[source] if spikes else message
                    if shift is not None:
                        by = shift[relation]
                        sent = (1 - by) * RHO**-by * sent + by * RHO ** (1 - by) * earlier(spikes, step - 1)[source]
                    slope = trace(spikes, step, mode)[source].detach()
                    sent = sent + (delays[relation] - delays[relation].detach()) * slope
                    message = message + (rounded == delay) * sent
                if weights is not None:
                    message = message * weights[relation]
                arrived = arrived.index_add(
                    0, torch.tensor([target]), (message * (1 if kept is None else kept[e]))[None]
                )
            current = RHO * current + GAIN * synapses(arrived, spikes[-1])
            membrane = RHO * membrane + current
        membrane = membrane + injected
        spikes.append(spike(membrane - threshold))
        membrane = membrane * (1 - spikes[-1])
    powers = torch.tensor([decay**t for t in range(steps)], dtype=drive.dtype)
    return sum(p * s for p, s in zip(powers / powers.sum(), spikes)), spikes
