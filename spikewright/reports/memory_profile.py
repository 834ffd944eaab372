"""The memory profile: how many bytes a training step keeps for the backward pass, by number of steps."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count, check_instance
from spikewright._util.real_numbers import as_real
from spikewright._util.returned import described
from spikewright._util.text import aligned, readable, size_in_bytes
from spikewright._util.trial import untouched
from spikewright.errors import ConfigError, ShapeError
from spikewright.losses import standard_loss
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.rules import Rule
from spikewright.rules._base import fresh_copy
from spikewright.rules._check import check_network
from spikewright.rules._chunk_size import steps_at_once
from spikewright.temporal import is_static


@dataclass(frozen=True)
class MemoryRow:
    """Activation memory of one sequence length.

    Attributes:
        steps: Number of steps.
        saved_bytes: Most bytes that autograd keeps for the backward pass at one time, parameters not counted.
        measured: True if the bytes are measured, False if they are extrapolated from measured rows.
    """

    steps: int
    saved_bytes: int
    measured: bool


@dataclass(frozen=True)
class Plan:
    """The memory profile of a rule on a network, as `plan` returns it.

    Attributes:
        rule: The rule, as text.
        shape: Shape of the input, `[time, batch, *feature]`.
        rows: Bytes by number of steps, in order.
        bytes_per_step: Slope between the last two measured rows, in bytes; 0 if memory does not grow.
        budget: Given budget in bytes, at least 0; `None` without one.
        largest: Largest number of steps within the budget, at least 0, of the rows where memory does not lie on a
            line.  `None` without a budget, or if every length fits.
    """

    rule: str
    shape: tuple[int, ...]
    rows: list[MemoryRow]
    bytes_per_step: float
    budget: int | None
    largest: int | None

    def table(self) -> str:
        """Return the rows as aligned text, and the number of steps that fit the budget."""
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
    budget: int | str | None = None,
    measure: Sequence[int] | None = None,
    report: Sequence[int] = (16, 64, 256, 1024),
) -> Plan:
    """Measure the activation memory of a training step, by number of steps: the memory profile.

    Short sequences are run, and the bytes that autograd saves for the backward pass counted; longer ones are
    extrapolated, if the rule declares that its memory is constant or linear in the number of steps.  Network, rule,
    gradients and random states are as before when it returns.

    Args:
        net: Network, in the mode (training or not) and on the device in which it will be used.
        rule: Learning rule.  Instance of `spikewright.rules.Rule`.
        shape: Shape of the input, `[time, batch, *feature]`, each from 1 to 10**6, for random input in [0, 1) of the
            parameters' dtype; or an example of the input, whose steps are repeated, for indices of an embedding, bytes
            or another dtype.  Its number of steps is reported too.
        budget: Memory budget; the result then says how many steps fit.  A whole number of bytes, at least 0, or a size
            such as "8GB" or "512MiB".  Default: None, no budget.
        measure: Numbers of steps that are run.  At least two different whole numbers, each from 1 to 10**6.  Default:
            None, three short lengths that hold at least one whole chunk of the rule.
        report: Numbers of steps that are extrapolated from the last two measured ones; they are run as well for a rule
            whose memory is not constant or linear.  Whole numbers, at least 1.  Default: (16, 64, 256, 1024).

    Raises:
        ConfigError: `net` is not a `Network`, or `rule` is not a `Rule`; there are fewer than two lengths to measure; a
            length is not a whole number of at least 1; `budget` is not a size; or `shape` is not a shape.
        ShapeError: The network does not take such an input.

    >>> import torch, spikewright as sw
    >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 2)))
    >>> profile = sw.plan(net, sw.rules.SLTT(), (100, 5, 4), budget=2**20)
    >>> profile.bytes_per_step, profile.largest  # SLTT frees every step, so any length fits
    (0.0, None)
    >>> sw.plan(net, sw.rules.BPTT(), (100, 5, 4)).bytes_per_step > 0
    True
    """
    check_network("plan", net)
    check_instance("plan", "rule", rule, Rule, "sw.rules.OTTT()")
    inputs = _Inputs(net, shape)
    limit = None if budget is None else _bytes(budget)
    for name, lengths in (("measure", measure or ()), ("report", report)):
        for steps in lengths:
            most = MOST if name == "measure" else None
            check_count("plan", name, steps, "a sequence has at least one step", most=most)
    reported = {inputs.sizes[0], *report}
    lengths = _lengths(net, rule, inputs, measure, reported)
    measured = {steps: _saved_bytes(net, rule, steps, inputs) for steps in lengths}
    line = _Line.through_last_two(measured)
    rows = [
        MemoryRow(steps, measured[steps] if steps in measured else line.at(steps), steps in measured)
        for steps in sorted(reported.union(lengths))
    ]
    largest = None
    if limit is not None:
        largest = line.largest(limit) if _on_a_line(rule) else _largest(rows, limit)
    return Plan(repr(rule), inputs.sizes, rows, line.slope, limit, largest)


def _bytes(budget: int | str) -> int:
    size = size_in_bytes(budget) if isinstance(budget, str) else budget
    if size is None:
        raise ConfigError(
            f"plan(budget={budget!r}): the text is not a size of memory. Give a number of bytes, or a number and a "
            "unit, such as '8GB' or '512MiB'."
        )
    check_count("plan", "budget", size, "a budget is a number of bytes", least=0)
    return size


@dataclass(frozen=True)
class _Line:
    """Bytes as a linear function of the number of steps: `size` bytes at `steps`."""

    steps: int
    size: int
    slope: float

    @classmethod
    def through_last_two(cls, measured: Mapping[int, int]) -> "_Line":
        (first, fewer), (last, more) = list(measured.items())[-2:]
        return cls(last, more, (more - fewer) / (last - first))

    def at(self, steps: int) -> int:
        return round(self.size + self.slope * (steps - self.steps))

    def largest(self, budget: int) -> int | None:
        """Return the largest number of steps within a budget; `None` if every length fits."""
        if self.slope > 0:
            return max(0, math.floor((budget - self.size) / self.slope) + self.steps)
        return 0 if self.size > budget else None


def _largest(rows: Sequence[MemoryRow], budget: int) -> int:
    return max((row.steps for row in rows if row.saved_bytes <= budget), default=0)


def _on_a_line(rule: Rule) -> bool:
    return rule.traits.memory in ("constant", "linear")


def _lengths(
    net: Network, rule: Rule, inputs: "_Inputs", measure: Sequence[int] | None, reported: set[int]
) -> list[int]:
    """Return the numbers of steps to measure, in order."""
    if measure is None:
        shortest = max(2, rule.traits.least_steps, _whole_chunk(net, rule, inputs, max(reported)))
        measure = (shortest, 2 * shortest, 4 * shortest)
    lengths = sorted({*measure} if _on_a_line(rule) else {*measure, *reported})
    if len(lengths) < 2:
        raise ConfigError(
            f"plan(measure={lengths}): a line needs at least two different lengths. Give two or more numbers of steps, "
            "such as measure=(4, 8), or leave measure out."
        )
    return lengths


def _whole_chunk(net: Network, rule: Rule, inputs: "_Inputs", steps: int) -> int:
    """Return the length of the rule's chunks in a sequence; 0 if its memory does not depend on it."""
    if not rule.chunk or not rule.traits.grows_with_chunk or rule.traits.memory == "root":
        return 0
    with untouched(net.module):
        x = inputs(1).expand(steps, *inputs.sizes[1:])
        return steps_at_once(rule, _wiring(net, x, inputs), x)


def _sizes(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, Tensor):
        return tuple(shape.shape)
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = ()
    if len(sizes) < 2 or not all(1 <= size <= MOST for size in sizes) or any(isinstance(size, bool) for size in shape):
        raise ConfigError(
            f"plan was given {described(shape)} for the shape of the input, which must be whole numbers from 1 to "
            "10**6, (time, batch, *feature). Give x.shape, or an example as a tensor, such as torch.as_tensor(x)."
        )
    return sizes


class _Inputs:
    """Inputs of any length: random numbers of a shape, or an example whose steps are repeated.

    Args:
        net: Network whose parameters have the dtype and the device of random inputs.
        shape: Shape `(time, batch, *feature)`, or an example.
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
