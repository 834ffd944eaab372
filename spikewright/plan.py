"""The memory certificate: how many bytes a step keeps for backward, and whether that grows with time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spikewright.errors import ConfigError
from spikewright.losses import standard_loss
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.rules import Rule, fresh_copy, steps_at_once
from spikewright.text import aligned, readable
from spikewright.trial import untouched


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
        body = [(str(r.steps), readable(r.saved_bytes), "measured" if r.measured else "on the line") for r in self.rows]
        lines = [f"{self.rule}, input {list(self.shape)}", aligned([("steps", "saved for backward", ""), *body])]
        if self.budget is not None:
            fits = "every length fits" if self.largest is None else f"at most {self.largest} steps fit"
            lines.append(f"In {readable(self.budget)}: {fits}.")
        return "\n".join(lines)


def plan(
    net: Network,
    rule: Rule,
    shape: Sequence[int],
    budget: int | None = None,
    measure: Sequence[int] | None = None,
    report: Sequence[int] = (16, 64, 256, 1024),
) -> Plan:
    """Measure the bytes a training step keeps for backward, by number of steps.

    Args:
        net: The network, in the mode (training or not) and on the device it will be used.
        rule: The rule.
        shape: Of the input, `[time, batch, *feature]`; its number of steps joins the reported ones.
        budget: In bytes; the plan then says how many steps fit.
        measure: Lengths that are run, at least two; by default three short ones that the rule's chunk fits into.
        report: Lengths that are read off the line through the last two measured ones; run as well for a rule whose
            memory does not lie on a line.

    Raises:
        ConfigError: Fewer than two lengths to measure.
    """
    on_a_line = rule.traits.memory in ("constant", "linear")
    if measure is None:
        x = next(net.parameters()).new_zeros(()).expand(max((shape[0], *report)), *shape[1:])
        grows = rule.chunk and rule.traits.grows_with_chunk and rule.traits.memory != "root"
        at_once = steps_at_once(rule, net.wiring(x), x) if grows else 0
        shortest = max(2, rule.traits.least_steps, at_once)
        measure = (shortest, 2 * shortest, 4 * shortest)
    lengths = sorted({*measure, *(() if on_a_line else (shape[0], *report))})
    if len(lengths) < 2:
        raise ConfigError(f"plan(measure={lengths}): a line needs at least two different lengths.")
    measured = {steps: _saved_bytes(net, rule, (steps, *shape[1:])) for steps in lengths}
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


def _saved_bytes(net: Network, rule: Rule, shape: Sequence[int]) -> int:
    example = next(net.parameters())
    with untouched(net.module):
        x = torch.rand(*shape, dtype=example.dtype, device=example.device)
        y = torch.zeros(shape[1], dtype=torch.int64, device=example.device)
        net.wiring(x)  # its probe is not part of a step
        learner = fresh_copy(rule, net, x)
        with SavedBytes() as saved:
            loss = standard_loss(rule.traits.loss)(lambda output, _: output.square().mean())
            for _ in learner.updates(net, x, y, loss):
                pass
    return saved.peak
