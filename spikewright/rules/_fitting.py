"""As many steps at once as fit a memory budget."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spikewright._util.text import counted, readable, size_in_bytes
from spikewright.errors import IncompatibleRule
from spikewright.network.holding import exclusively
from spikewright.rules._chunk_memory import ChunkMemory
from spikewright.rules._chunk_size import steps_at_once
from spikewright.rules._step_memory import StepMemory, own_bytes, step_memory
from spikewright.temporal import is_static

if TYPE_CHECKING:
    from spikewright.rules._base import Rule
    from spikewright.rules._batch import Batch

AUTO = 1 << 30
"""Budget of "auto" in bytes: more steps at once are faster, and most machines have this much to spare."""
_SPARE = 8
"""One part in so many of a budget is left to what torch does not hand out: buffers of the libraries that it calls."""


@dataclass(frozen=True)
class Fit:
    """Steps that run together under a memory budget.

    Attributes:
        chunk: Number of steps.
        needed: Budget in bytes that they need: their working memory, the copy of the rule that it is measured with,
            and the spare part.
        budget: The budget in bytes.
    """

    chunk: int
    needed: int
    budget: int


def fitting_steps(rule: "Rule", batch: "Batch") -> int:
    """Return the number of steps that a rule with a memory budget runs together.

    Args:
        rule: The rule, whose `chunk` is a memory budget.
        batch: The batch, which has been checked.

    Raises:
        IncompatibleRule: No number of steps fits.
    """
    steps, samples = batch.x.shape[:2]
    known, key = batch.wiring.memory, (*_described(rule, batch), steps)
    if key not in known:
        known[key] = fit_of(rule, batch, steps)
    fit: Fit = known[key]
    if fit.needed <= fit.budget:
        return fit.chunk
    enough = readable(-(-fit.needed // 2**20) * 2**20)
    raise IncompatibleRule(
        f"{type(rule).__name__}(chunk={rule.chunk!r}) is to learn from {counted(steps, 'step')} of "
        f"{counted(samples, 'sample')} in {readable(fit.budget)} of working memory, but needs at least "
        f"{readable(fit.needed)} in this network, with {counted(fit.chunk, 'step')} at a time. Give it {enough!r} or a "
        "number of steps, learn from fewer samples at a time, or use a rule that keeps less (BPTT(checkpoint=True), "
        "SLTT, OTTT)."
    )


def fit_of(rule: "Rule", batch: "Batch", steps: int, memory: ChunkMemory | None = None) -> Fit:
    """Return the longest chunk within the budget of a rule, or the one that takes least memory if none is.

    Args:
        rule: The rule, whose `chunk` is a memory budget.
        batch: A batch, which has been checked.
        steps: Length of the sequence.  At least 1.
        memory: Memory by length of chunks.  Default: None, measured, with chunks up to half of the sequence.
    """
    if memory is None:
        memory = chunk_memory(rule, batch, batch.wiring.memory.setdefault(_described(rule, batch), {}))
    one, copy = memory.of_few(1).working, own_bytes(rule)
    budget = size_in_bytes(str(rule.chunk)) or max(AUTO, _with_spare(2 * one + copy))
    found = _within(budget - budget // _SPARE - copy, rule, batch, memory, steps)
    return Fit(found.chunk, _with_spare(found.needed + copy), budget)


def _with_spare(size: int) -> int:
    return -(-size * _SPARE // (_SPARE - 1))


def _within(budget: int, rule: "Rule", batch: "Batch", memory: ChunkMemory, steps: int) -> Fit:
    fixed, one = steps_at_once(rule, batch.wiring, steps), memory.of_few(1).working
    if fixed is not None or _whole(batch):
        return Fit(fixed or steps, memory.at(steps, fixed or steps).working, budget)
    if steps * one <= budget:  # steps together take no more than each of them alone
        return Fit(steps, steps * one, budget)
    return _longest_within(budget, memory, steps)


def chunk_memory(rule: "Rule", batch: "Batch", trials: dict[Any, Any]) -> ChunkMemory:
    """Return the memory of a rule by length of chunks.

    Args:
        rule: The rule.
        batch: A batch, which has been checked.
        trials: What has been measured already; what is measured later is added.
    """
    whole, least = _whole(batch), rule.trial_copy(1).traits.least_steps

    def trial(steps: int, chunk: int) -> StepMemory:
        return step_memory(rule.trial_copy(steps if whole else chunk), batch, steps)

    return ChunkMemory(trial, max(2, least), trials)


def _longest_within(budget: int, memory: ChunkMemory, steps: int) -> Fit:
    """Return the longest of even chunks that is sure to fit, by chunks of 1, 2, 4, ... steps as long as these fit."""
    found = [Fit(1, memory.at(steps, 1).working, budget)]
    while 2 * memory.longest <= steps:
        one = memory.of_few(memory.longest).working
        fits = any(fit.needed <= budget for fit in found)
        if 2 * one > budget and (fits or memory.longest > 1):  # twice the steps may take twice the memory
            break
        memory.of_few(2 * memory.longest)
        found.append(Fit(memory.longest, memory.at(steps, memory.longest).working, budget))
    fitting = [fit for fit in found if fit.needed <= budget]
    if not fitting:
        return min(found, key=lambda fit: fit.needed)
    best = fitting[-1]
    longer = min(steps, best.chunk * budget // best.needed, 2 * best.chunk)
    even = -(-steps // -(-steps // longer))
    return Fit(even, best.needed * even // best.chunk, budget)


def _whole(batch: "Batch") -> bool:
    """Return True if a layer of the network needs all steps of a sequence at once."""
    sites = batch.wiring.sites
    return bool(exclusively(sites.module, sites.identities, lambda turn: sites.whole_sequence))


def _described(rule: "Rule", batch: "Batch") -> tuple[object, ...]:
    """Return what the memory of a training step depends on, apart from the network and the number of steps."""
    x, own, penalty = batch.x, (*rule.named_parameters(), *rule.named_buffers()), repr(batch.loss.penalty)
    sizes = tuple((name, tuple(tensor.shape)) for name, tensor in own)
    kind = tuple(x.shape[1:]), x.dtype, x.device, x.requires_grad, is_static(x)
    return repr(rule), penalty, sizes, *kind, batch.state is None
