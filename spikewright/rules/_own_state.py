"""What of a neuron's state depends on its inputs, and whether each neuron depends on itself alone: measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.trial import untouched
from spikewright.neurons import Neuron
from spikewright.temporal import SiteState

STEPS, DRAWN = 8, 64
Slopes = dict[str, Tensor]
"""Derivatives of a part of the state, neuron by neuron, by the parts of the last state, and by `CURRENT`."""
CURRENT, OUTPUT = "", "output"


@dataclass(frozen=True)
class OwnState:
    """The state of neurons as far as their gradients depend on it.

    Attributes:
        names: Parts that depend on the current.
        traced: Those of them whose derivative is that of a trace of inputs: their slopes are constants, and all others
            depend on them as on the potential of the step.
        response: What an input is worth in the output after 0, 1, ... steps, relative to what it is at once, if all
            slopes are constants, as in neurons that do not spike; empty otherwise.
        coupled: Name of a part through which neurons depend on each other; `None` if there is none.
    """

    names: tuple[str, ...]
    traced: frozenset[str]
    response: tuple[float, ...] = ()
    coupled: str | None = None

    @property
    def others(self) -> tuple[str, ...]:
        """Parts for which a trace of inputs is not enough."""
        return tuple(name for name in self.names if name not in self.traced)


def parts(state: SiteState, like: Tensor) -> SiteState:
    """Return the parts of a state that have a number for every neuron.

    Args:
        state: State of neurons.
        like: Current of one step, `[batch, *feature]`.
    """
    return {name: value for name, value in state.items() if value.is_floating_point() and value.shape == like.shape}


def slopes(after: Mapping[str, Tensor], before: Mapping[str, Tensor], current: Tensor) -> dict[str, Slopes]:
    """Return the derivatives of every part of a state by the parts before, and by the current of the step.

    Args:
        after: Parts after the step, with their graph.
        before: Parts before it, `[batch, *feature]`.
        current: Current of the step, of that shape, or with an axis of one step in front.
    """
    return {name: _by(value, torch.ones_like(value), before, current) for name, value in after.items()}


def _by(value: Tensor, error: Tensor, before: Mapping[str, Tensor], current: Tensor) -> Slopes:
    if not value.requires_grad:
        return {}
    sources = {name: source for name, source in (*before.items(), (CURRENT, current)) if source.requires_grad}
    found = torch.autograd.grad(value, list(sources.values()), error, retain_graph=True, allow_unused=True)
    return {name: grad.reshape(value.shape) for name, grad in zip(sources, found) if grad is not None}


def own_state(neuron: Neuron, shape: Sequence[int], like: Tensor) -> OwnState:
    """Measure the scan of neurons, at random currents around their threshold.

    Args:
        neuron: The neurons, which stay as they are.
        shape: Shape of their current in one step, `[*feature]`.
        like: Tensor that gives type and device.
    """
    seen: list[dict[str, Slopes]] = []
    sent: list[dict[str, Slopes]] = []
    source, samples = torch.Generator().manual_seed(13), max(2, DRAWN // math.prod(shape))
    with untouched(neuron), torch.enable_grad():
        state: SiteState = {}
        for step in range(STEPS):
            drawn = torch.randn(samples, *shape, generator=source, dtype=torch.float64)
            current = (neuron.threshold * (0.3 + drawn) * 2.0 ** (step % 4 - 1)).to(like).requires_grad_()
            before = {name: value.detach().requires_grad_() for name, value in parts(state, current).items()}
            output, after = neuron.scan(current.unsqueeze(0), {**state, **before}, True)
            for name, value in after.items():
                if _couples(name, value, before, current):
                    return OwnState((), frozenset(), coupled=name)
            seen.append(slopes(parts(after, current), before, current))
            sent.append(slopes({OUTPUT: output[0]}, before, current))
            state = {name: value.detach() for name, value in after.items()}
    names = _dependent(seen)
    return OwnState(names, _traced(names, seen), _response(names, seen, sent))


def _couples(name: str, value: Tensor, before: Mapping[str, Tensor], current: Tensor) -> bool:
    """Return True if a part depends on currents or states of other neurons."""
    if not value.requires_grad:
        return False
    if value.shape != current.shape:
        return bool(_by_any(value, before, current))
    errors = [1 + torch.rand(value.shape, generator=torch.Generator().manual_seed(s)).to(value) for s in (1, 2)]
    one, other = (_by(value, error, before, current) for error in errors)
    close = {torch.float64: 1e-9}.get(value.dtype, 1e-3)
    return not all(torch.allclose(one[k] * errors[1], other[k] * errors[0], close, close * 1e-3) for k in one)


def _by_any(value: Tensor, before: Mapping[str, Tensor], current: Tensor) -> bool:
    found = torch.autograd.grad(value.sum(), [*before.values(), current], retain_graph=True, allow_unused=True)
    return any(grad is not None for grad in found)


def _dependent(seen: Sequence[dict[str, Slopes]]) -> tuple[str, ...]:
    """Return the parts that the current reaches, at once or through others."""
    names = list(dict.fromkeys(name for step in seen for name in step))
    reached = {CURRENT}
    for _ in names:
        reached |= {name for step in seen for name, by in step.items() if reached & by.keys()}
    return tuple(name for name in names if name in reached)


def _traced(names: Sequence[str], seen: Sequence[dict[str, Slopes]]) -> frozenset[str]:
    """Return the parts with constant slopes, if all others depend on them in the ratio in which the potential does."""
    rows = {name: {by: _joined(name, by, seen[1:]) for by in (*names, CURRENT)} for name in names}
    silent = {name for name in names if CURRENT in seen[-1][name] and not rows[name][CURRENT].any()}  # no slope was met
    constant = {name for name, row in rows.items() if all(map(_is_constant, row.values()))} - silent
    while outer := {n for n in constant if any(bool(rows[n][by].any()) for by in names if by not in constant)}:
        constant -= outer
    others = [rows[name] for name in names if name not in constant]
    fits = all(_is_multiple(row[name], row[CURRENT]) for row in others for name in constant)
    return frozenset(constant) if fits else frozenset()


def _response(
    names: Sequence[str], seen: Sequence[dict[str, Slopes]], sent: Sequence[dict[str, Slopes]]
) -> tuple[float, ...]:
    """Return what an input is worth later, if all slopes are constants, that of the output by the current not 0."""
    by = (*names, CURRENT)
    rows = [[_joined(n, source, seen[1:]) for source in by] for n in names]
    last = [_joined(OUTPUT, source, sent[1:]) for source in by]
    if not all(map(_is_constant, [*last, *(slope for row in rows for slope in row)])) or not last[-1].all():
        return ()
    worth = [1.0]
    held = [float(row[-1][0] / last[-1][0]) for row in rows]
    for _ in range(STEPS):
        worth.append(sum(float(slope[0]) * value for slope, value in zip(last, held)))
        held = [sum(float(slope[0]) * value for slope, value in zip(row, held)) for row in rows]
    return tuple(worth)


def _joined(name: str, by: str, seen: Sequence[dict[str, Slopes]]) -> Tensor:
    """Return the derivatives of a part by another at all steps; 0 where there is none."""
    like = next(slope for step in seen for slopes in step.values() for slope in slopes.values())
    return torch.cat([step[name].get(by, torch.zeros_like(like)).flatten() for step in seen])


def _is_constant(values: Tensor) -> bool:
    return bool((values - values[0]).abs().max() <= 1e-5 * values.abs().max())


def _is_multiple(values: Tensor, of: Tensor) -> bool:
    """Return True if values are one number times others."""
    size = (of * of).sum()
    factor = (values * of).sum() / size if size else 0.0
    return bool((values - factor * of).norm() <= 1e-5 * values.norm())
