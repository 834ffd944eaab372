"""The memory of a training step by number of steps that run together, from a few short steps."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from spikewright.rules._step_memory import StepMemory

Trial = Callable[[int, int], StepMemory]
"""Function that returns the memory of a training step, given the length of a sequence and of its chunks."""
Trials = dict[tuple[int, int], StepMemory]
"""Memory of training steps, by the length of chunks and their number."""
LONGEST = 8
"""Steps of the longest chunk that is tried to extrapolate from."""


class ChunkMemory:
    """Memory of a training step as a function of the lengths of the sequence and of its chunks.

    With c the length of chunks and n their number, memory is taken for :math:`a + b c + n (d + e c)` in each phase of
    the step: chunks need memory while they run, and may leave some behind.  Sequences of a few chunks of 1, 2, 4, ...
    steps are tried; the longest two of these lengths determine b.

    Args:
        trial: Measures a training step.
        few: Number of chunks in a trial.  At least 2.
        trials: What has been measured already; what is measured later is added.
    """

    def __init__(self, trial: Trial, few: int, trials: Trials) -> None:
        self._trial, self._few, self._trials = trial, few, trials

    @property
    def longest(self) -> int:
        """Length of the longest chunk that was tried."""
        return max((chunk for chunk, count in self._trials if count == self._few), default=1)

    def extrapolated(self) -> "ChunkMemory":
        """Return the same for chunks of any length, from what has been tried: no longer one is."""
        return ChunkMemory(self.at, self._few, dict(self._trials))

    def of_few(self, chunk: int) -> StepMemory:
        """Return the measured memory of a few chunks.

        Args:
            chunk: Steps that run together.  At least 1.
        """
        return self._measured(chunk, self._few)

    def at(self, steps: int, chunk: int) -> StepMemory:
        """Return the memory of a training step.

        Args:
            steps: Length of the sequence.  At least 1.
            chunk: Steps that run together.  At least 1.
        """
        long, behind = self.longest, self._left_behind(1)
        found = self.of_few(long).numbers
        if long > 1:
            slope = np.maximum(found - self.of_few(long // 2).numbers, 0) / (long - long // 2)
            found = found + slope * (chunk - long)
            behind = behind + (self._left_behind(2) - behind) * (chunk - 1)
        return StepMemory.of(found + (steps / chunk - self._few) * behind)

    def _left_behind(self, chunk: int) -> npt.NDArray[np.float64]:
        """Return the bytes that a chunk adds to what is there when its successors run.

        Of the fewest chunks the first or the last takes most; what each adds shows from the next ones on.
        """
        more = self._measured(chunk, 4 * self._few).numbers - self._measured(chunk, 2 * self._few).numbers
        return np.maximum(more, 0) / (2 * self._few)

    def _measured(self, chunk: int, count: int) -> StepMemory:
        if (chunk, count) not in self._trials:
            self._trials[chunk, count] = self._trial(chunk * count, chunk)
        return self._trials[chunk, count]
