"""The memory profile: how many bytes a step keeps for backward, and whether that grows with time."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.real_numbers import as_real
from spikewright._util.returned import described
from spikewright._util.text import aligned, readable
from spikewright._util.trial import untouched
from spikewright.errors import ConfigError, ShapeError
from spikewright.losses import standard_loss
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules import Rule
from spikewright.rules._base import fresh_copy
from spikewright.rules._chunk_size import steps_at_once
from spikewright.temporal import is_static


@dataclass(frozen=True)
class MemoryRow:
    """Bytes kept for backward at once, for sequences of `steps` steps.

    Attributes:
        steps: Length of the sequence.
        saved_bytes: Peak of what autograd keeps, parameters not counted.
        measured: Measured; otherwise extrapolated from the measured rows, which lie on a line.
    """

    steps: int
    saved_bytes: int
    measured: bool


@dataclass(frozen=True)
class Plan:
    """The memory of a rule as a function of the number of steps.

    Attributes:
        rule: The rule, as text.
        shape: Of the input, `[time, batch, *feature]`.
        rows: Bytes by number of steps.
        bytes_per_step: Slope of the line through the last two measured rows; 0 if memory does not grow.
        largest: The largest number of steps within `budget`, of the measured ones where memory does not lie on a line;
            `None` without a budget or if every length fits.
        budget: In bytes.
    """

    rule: str
    shape: tuple[int, ...]
    rows: list[MemoryRow]
    bytes_per_step: float
    budget: int | None
    largest: int | None

    def table(self) -> str:
        """Return the rows as aligned text, and what fits the budget."""
        body = [
            (str(r.steps), readable(r.saved_bytes), "measured" if r.measured else "extrapolated") for r in self.rows
        ]
        lines = [f"{self.rule}, input {list(self.shape)}", aligned([("steps", "saved for backward", ""), *body])]
        if self.budget is not None:
            fits = "every length fits" if self.largest is None else f"at most {self.largest} steps fit"
            lines.append(f"In {readable(self.budget)}: {fits}.")
        return "\n".join(lines)


def plan(
    net: Network,
    rule: Rule,
    shape: Sequence[int] | Tensor,
    budget: int | None = None,
    measure: Sequence[int] | None = None,
    report: Sequence[int] = (16, 64, 256, 1024),
) -> Plan:
    """Measure the bytes a training step keeps for backward, by number of steps.

    Args:
        net: The network, in the mode (training or not) and on the device it will be used.
        rule: The rule.
        shape: The input's shape, `[time, batch, *feature]`, if random numbers in [0, 1) of the parameters' type will
            do; or an example of the input, whose steps are repeated, for indices of an embedding, bytes, or another
            type.  Its number of steps joins the reported ones.
        budget: In bytes; the plan then says how many steps fit.
        measure: Lengths that are run, at least two; by default three short ones that the rule's chunk fits into.
        report: Lengths that are read off the line through the last two measured ones; run as well for a rule whose
            memory does not lie on a line.

    Raises:
        ConfigError: Fewer than two lengths to measure; or `shape` is no shape.
        ShapeError: The network does not take such an input.
    """
    on_a_line = rule.traits.memory in ("constant", "linear")
    inputs = _Inputs(net, shape)
    shape = inputs.sizes
    if measure is None:
        grows = rule.chunk and rule.traits.grows_with_chunk and rule.traits.memory != "root"
        at_once = 0
        if grows:
            with untouched(net.module):
                x = inputs(1).expand(max((shape[0], *report)), *shape[1:])
                at_once = steps_at_once(rule, _wiring(net, x, inputs), x)
        shortest = max(2, rule.traits.least_steps, at_once)
        measure = (shortest, 2 * shortest, 4 * shortest)
    lengths = sorted({*measure, *(() if on_a_line else (shape[0], *report))})
    if len(lengths) < 2:
        raise ConfigError(f"plan(measure={lengths}): a line needs at least two different lengths.")
    measured = {steps: _saved_bytes(net, rule, steps, inputs) for steps in lengths}
    (s0, b0), (s1, b1) = list(measured.items())[-2:]
    slope = (b1 - b0) / (s1 - s0)
    for steps in sorted({shape[0], *report} - set(lengths)):
        measured.setdefault(steps, round(b1 + slope * (steps - s1)))
    rows = [MemoryRow(steps, size, steps in lengths) for steps, size in sorted(measured.items())]
    largest = None
    if budget is not None and not on_a_line:
        largest = max((row.steps for row in rows if row.saved_bytes <= budget), default=0)
    elif budget is not None and (slope > 0 or b1 > budget):
        largest = max(0, math.floor((budget - b1) / slope) + s1) if slope > 0 else 0
    return Plan(repr(rule), tuple(shape), rows, slope, budget, largest)


def _sizes(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, Tensor):
        return tuple(shape.shape)
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) < 2 or min(sizes) < 1:
        raise ConfigError(
            f"plan was given {described(shape)} for the shape of the input, which is whole numbers from 1 on, (time, "
            "batch, *feature). Give x.shape, or an example as a tensor, such as torch.as_tensor(x)."
        )
    return sizes


class _Inputs:
    """Inputs of any length: random numbers of a shape, or an example whose steps are repeated.

    Args:
        net: The network, whose parameters have the type and the device of random numbers.
        shape: The shape, or the example.
    """

    def __init__(self, net: Network, shape: Sequence[int] | Tensor) -> None:
        self.example = shape.detach() if isinstance(shape, Tensor) else None
        self.sizes, self._like = _sizes(shape), next(net.parameters(), torch.empty(0))

    def __call__(self, steps: int) -> Tensor:
        """Return an input of that many steps."""
        if self.example is None:
            sizes = (steps, *self.sizes[1:])
            return torch.rand(sizes, dtype=self._like.dtype, device=self._like.device)
        if is_static(self.example):
            return self.example[:1].expand(steps, *self.sizes[1:])
        return self.example[torch.arange(steps, device=self.example.device) % len(self.example)]


def _wiring(net: Network, x: Tensor, inputs: _Inputs) -> Wiring:
    try:
        return net.wiring(x)
    except ShapeError as error:
        if inputs.example is not None:
            raise
        raise ShapeError(
            f"{error} plan was given a shape, and made an input of {x.dtype} of it. If the network takes another type, "
            "such as indices of an embedding, or bytes, give an example in place of the shape: plan(net, rule, x)."
        ) from error


def _saved_bytes(net: Network, rule: Rule, steps: int, inputs: _Inputs) -> int:
    with untouched(net.module):
        x = inputs(steps)
        y = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
        _wiring(net, x, inputs)  # its probe is not part of a step
        learner = fresh_copy(rule, net, x)
        with SavedBytes() as saved:
            loss = standard_loss(rule.traits.loss)(lambda output, _: as_real(output).square().mean())
            for _ in learner.updates(net, x, y, loss):
                pass
    return saved.peak
