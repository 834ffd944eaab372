"""The memory of a training step by length of the sequence: measured at short ones, extrapolated to longer ones."""

from copy import deepcopy
from functools import cached_property

import numpy as np

from spikewright.reports._profile_inputs import Inputs
from spikewright.rules import Rule
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_memory import LONGEST, ChunkMemory
from spikewright.rules._chunk_size import is_budget, steps_at_once
from spikewright.rules._fitting import chunk_memory, fit_of
from spikewright.rules._step_memory import StepMemory, step_memory

FAR = 2**40
"""A length that no sequence reaches."""
LONG = 2**10
"""The longest sequence for which chunks are tried as a rule with a memory budget does; for others it is computed."""


class MemoryCurve:
    """Memory of a training step by number of steps.

    Args:
        rule: The rule, prepared for the network.
        batch: A batch with a short input, which has been checked.
    """

    def __init__(self, rule: Rule, batch: Batch) -> None:
        self._rule, self._batch = rule, batch
        self.measured: dict[int, StepMemory] = {}

    def measure(self, steps: int) -> None:
        """Run a training step, and undo it.

        Args:
            steps: Length of the sequence.  At least 1.
        """
        rule = deepcopy(self._rule)
        if is_budget(rule.chunk):
            rule = rule.trial_copy(self._chunk(steps))
        self.measured[steps] = step_memory(rule, self._batch, steps)

    def at(self, steps: int) -> StepMemory:
        """Return the memory of a training step, measured or extrapolated.

        Args:
            steps: Length of the sequence.  At least 1.
        """
        if steps in self.measured:
            return self.measured[steps]
        return self._by_chunk.at(steps, self._chunk(steps)) if self.has_chunks else self._on_line(steps)

    @property
    def slope(self) -> float:
        """Bytes that are saved for each step more, by the last two lengths that were measured."""
        (first, fewer), (last, more) = self._last_two
        return (more.saved - fewer.saved) / (last - first)

    def largest(self, budget: int, inputs: Inputs) -> int | None:
        """Return the largest number of steps within a budget, at least 0; `None` if every length fits.

        Args:
            budget: The budget for working memory and input, in bytes.
            inputs: Inputs by number of steps.
        """

        def fits(steps: int) -> bool:
            return self.at(steps).working + inputs.bytes_of(steps) <= budget

        if fits(FAR):
            return None
        low, high = 0, FAR
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    @property
    def has_chunks(self) -> bool:
        """True if a sequence is cut into chunks of several steps; if not, memory is linear in its length."""
        return self._fixed(FAR) not in (1, FAR)

    def _chunk(self, steps: int) -> int:
        if (fixed := self._fixed(steps)) is not None:
            return fixed
        memory = None if steps <= LONG else self._by_chunk.extrapolated()
        return fit_of(self._rule, self._batch, steps, memory).chunk

    def _fixed(self, steps: int) -> int | None:
        return steps_at_once(self._rule, self._batch.wiring, steps)

    @cached_property
    def _by_chunk(self) -> ChunkMemory:
        """Memory by length of chunks; apart from what budgets have measured, which decides how a rule runs."""
        memory = chunk_memory(self._rule, self._batch, {})
        while memory.longest < LONGEST:
            memory.of_few(2 * memory.longest)
        return memory

    @property
    def _last_two(self) -> list[tuple[int, StepMemory]]:
        return sorted(self.measured.items())[-2:]

    def _on_line(self, steps: int) -> StepMemory:
        """Return the memory on the line through the last two lengths that were measured."""
        (first, fewer), (last, more) = self._last_two
        slope = np.maximum(more.numbers - fewer.numbers, 0) / (last - first)
        return StepMemory.of(more.numbers + (steps - last) * slope)
