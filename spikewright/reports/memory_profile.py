"""The memory profile: how much memory a training step takes, by number of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from spikewright._util.arguments import shown
from spikewright._util.ranges import MOST, check_count, check_flag, check_instance, check_row
from spikewright._util.text import aligned, readable, size_in_bytes
from spikewright._util.trial import untouched
from spikewright.errors import ConfigError
from spikewright.losses import FiringRatePenalty, Loss
from spikewright.network import Network
from spikewright.network.form import Input, is_several
from spikewright.reports._memory_curve import MemoryCurve
from spikewright.reports._profile_inputs import Inputs
from spikewright.rules import Rule
from spikewright.rules._base import fresh_copy
from spikewright.rules._batch import Batch
from spikewright.rules._check import check, check_loss, check_network
from spikewright.rules._chunk_memory import LONGEST
from spikewright.rules._step_memory import own_bytes, small_loss


@dataclass(frozen=True)
class MemoryRow:
    """Memory of a training step of one sequence length.

    Attributes:
        steps: Number of steps.
        saved_bytes: Most bytes that autograd keeps for the backward pass at one time, parameters not counted.
        working_bytes: Most bytes that the step allocates at one time: what is saved, gradients, states, outputs, and
            the buffers inside of operations.
        input_bytes: Bytes of the input, which is there before the step; a static input counts once.
        measured: True if the bytes are measured, False if they are extrapolated from measured steps.
    """

    steps: int
    saved_bytes: int
    working_bytes: int
    input_bytes: int
    measured: bool


@dataclass(frozen=True)
class Plan:
    """The memory profile of a rule on a network, as `plan` returns it.

    Attributes:
        rule: The rule, as text.
        shape: Shape of the input, `[time, batch, *feature]`.
        rows: Bytes by number of steps, in order.
        rule_bytes: Bytes that the rule keeps between steps, such as feedback matrices or stored samples; at least 0.
        bytes_per_step: Slope of the bytes saved for backward between the last two measured rows; 0 if they do not
            grow.
        budget: Given budget in bytes, at least 0; `None` without one.
        largest: Largest number of steps whose working memory and input fit the budget together with what the rule
            keeps, at least 0; of the rows alone, for a rule that does not declare how its memory grows.  `None` without
            a budget, or if every length fits.
    """

    rule: str
    shape: tuple[int, ...]
    rows: list[MemoryRow]
    rule_bytes: int
    bytes_per_step: float
    budget: int | None
    largest: int | None

    def table(self) -> str:
        """Return the rows as aligned text, and the number of steps that fit the budget."""
        body = [
            (
                str(row.steps),
                *map(readable, (row.saved_bytes, row.working_bytes, row.input_bytes)),
                "measured" if row.measured else "extrapolated",
            )
            for row in self.rows
        ]
        head = ("steps", "saved for backward", "working memory", "input", "")
        lines = [f"{self.rule}, input {list(self.shape)}", aligned([head, *body])]
        if self.rule_bytes:
            lines.append(f"The rule keeps {readable(self.rule_bytes)} between steps.")
        if self.budget is not None:
            fits = "every length fits" if self.largest is None else f"at most {self.largest} steps fit"
            lines.append(f"In {readable(self.budget)}: {fits}.")
        return "\n".join(lines)


def plan(
    net: Network,
    rule: Rule,
    shape: Sequence[int] | Input,
    budget: int | str | None = None,
    measure: Sequence[int] | None = None,
    report: Sequence[int] = (16, 64, 256, 1024),
    *,
    loss: Loss | None = None,
    batch_first: bool = False,
) -> Plan:
    """Measure the memory of a training step, by number of steps: the memory profile.

    Short sequences are run, and two amounts measured: the bytes that autograd saves for the backward pass, and the
    working memory, the most that torch hands out at one time.  Longer sequences are extrapolated, if the rule declares
    how its memory grows.  Network, rule, gradients and random states are as before when it returns.

    Counted as working memory is all that torch allocates during the step: saved tensors, gradients of parameters,
    states and traces, outputs, and temporary buffers, also those inside of operations.  Not counted is what is there
    before: parameters and the state of the optimizer.  The input and what the rule keeps have entries of their own.
    Nor is what a criterion takes, what other libraries allocate, or what the C library keeps: freed blocks stay with a
    process for a while, so that it may hold up to about twice as much (`docs/speed-and-memory.md`).

    Args:
        net: Network, in the mode (training or not) and on the device in which it will be used.
        rule: Learning rule.  Instance of `spikewright.rules.Rule`.
        shape: Shape of the input, `[time, batch, *feature]`, each from 1 to 10**6, for random input in [0, 1) of the
            parameters' dtype; or an example of the input, whose steps are repeated, for indices of an embedding, bytes
            or another dtype, or for several tensors in a tuple, list or dictionary.  Its number of steps is reported
            too.
        budget: Memory budget for working memory, input and what the rule keeps together; the result then says how many
            steps fit.  A whole number of bytes, at least 0, or a size such as "8GB" or "512MiB".  Default: None, no
            budget.
        measure: Numbers of steps that are run.  At least two different whole numbers, each from 1 to 10**6.  Default:
            None, three short lengths.
        report: Numbers of steps that are extrapolated; they are run as well for a rule that does not declare how its
            memory grows.  Whole numbers, each from 1 to 10**15.  Default: (16, 64, 256, 1024).
        loss: Loss whose penalty on firing rates is measured too; its criterion is not.  Instance of
            `spikewright.losses.Loss`.  Default: None, no penalty.
        batch_first: True if the shape or the example is `[batch, time, *feature]`.  Default: False.

    Raises:
        ConfigError: `net` is not a `Network`, `rule` not a `Rule`, or `loss` not a `Loss`; there are fewer than two
            lengths to measure; a length is not a whole number of at least 1; `budget` is not a size; `shape` is not a
            shape; `batch_first` is not a bool; or a profiler of torch is active.
        ShapeError: The network does not take such an input.
        IncompatibleRule: The rule does not take a penalty, or it cannot be measured in the network.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 2)))
    >>> sltt, bptt = (sw.plan(net, rule, (100, 5, 4), budget="1MiB") for rule in (sw.rules.SLTT(), sw.rules.BPTT()))
    >>> sltt.bytes_per_step, bptt.bytes_per_step > 0  # SLTT frees every step
    (0.0, True)
    >>> sltt.largest > 2 * bptt.largest
    True
    """
    check_network("plan", net)
    check_instance("plan", "rule", rule, Rule, "sw.rules.OTTT()")
    if loss is not None:
        check_loss("plan", loss)
    check_flag("plan", batch_first=batch_first)
    if isinstance(shape, Tensor) or is_several(shape):
        net, shape = net.given(cast(Input, shape), batch_first)
        batch_first = False
    limit = None if budget is None else _bytes(budget)
    for name, lengths in (("measure", () if measure is None else measure), ("report", report)):
        for steps in check_row("plan", name, lengths, "(16, 64)"):
            most = MOST if name == "measure" else 10**15
            check_count("plan", name, steps, "a sequence has at least one step", most=most)
    lengths = _lengths(rule, measure)
    with untouched(net.module):
        inputs = Inputs(net, shape, batch_first)
        inputs.wiring()  # says more than `check` if the input does not fit
        reported = {inputs.sizes[0], *report}
        learner = fresh_copy(rule, net, inputs.x)
        kept = own_bytes(learner)
        curve = _curve(net, learner, inputs, None if loss is None else loss.penalty)
        grows = rule.traits.memory != "unknown"
        for steps in sorted({*lengths} if grows else {*lengths, *reported}):
            curve.measure(steps)
        rows = [_row(curve, inputs, steps) for steps in sorted(reported.union(lengths))]
        largest = None
        if limit is not None:
            free = limit - kept
            largest = curve.largest(free, inputs) if grows else _largest(rows, free)
    return Plan(repr(rule), inputs.sizes, rows, kept, curve.slope, limit, largest)


def _curve(net: Network, learner: Rule, inputs: Inputs, penalty: FiringRatePenalty | None) -> MemoryCurve:
    x, loss = inputs.x, small_loss(learner, penalty)
    y = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
    return MemoryCurve(learner, Batch(net, x, y, loss, known=check(learner, net, loss, x, y)))


def _row(curve: MemoryCurve, inputs: Inputs, steps: int) -> MemoryRow:
    memory = curve.at(steps)
    return MemoryRow(steps, memory.saved, memory.working, inputs.bytes_of(steps), steps in curve.measured)


def _bytes(budget: int | str) -> int:
    size = size_in_bytes(budget) if isinstance(budget, str) else budget
    if size is None:
        raise ConfigError(
            f"plan(budget={shown(budget)}): the text is not a size of memory. Give a number of bytes, or a number and "
            "a unit, such as '8GB' or '512MiB'."
        )
    check_count("plan", "budget", size, "a budget is a number of bytes", least=0)
    return size


def _largest(rows: Sequence[MemoryRow], budget: int) -> int:
    return max((row.steps for row in rows if row.working_bytes + row.input_bytes <= budget), default=0)


def _lengths(rule: Rule, measure: Sequence[int] | None) -> list[int]:
    """Return the numbers of steps to measure, in order."""
    if measure is None:
        chunk = rule.chunk if isinstance(rule.chunk, int) and rule.chunk <= LONGEST else 1
        shortest = max(2, chunk, rule.traits.least_steps)
        measure = (shortest, 2 * shortest, 4 * shortest)
    lengths = sorted({*measure})
    if len(lengths) < 2:
        raise ConfigError(
            f"plan(measure={lengths}): a line needs at least two different lengths. Give two or more numbers of steps, "
            "such as measure=(4, 8), or leave measure out."
        )
    return lengths
