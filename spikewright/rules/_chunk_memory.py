"""The memory of a training step by number of steps that run together, from a few short steps."""

from collections.abc import Callable

from spikewright.rules._step_memory import StepMemory

Trial = Callable[[int, int], StepMemory]
"""Function that returns the memory of a training step, given the length of a sequence and of its chunks."""
Trials = dict[tuple[int, int], StepMemory]
"""Memory of training steps, by the same lengths."""
LONGEST = 8
"""Steps of the longest chunk that is tried."""


class ChunkMemory:
    """Memory of a training step as a function of the lengths of the sequence and of its chunks.

    With c the length of chunks and n their number, memory is taken for :math:`a + b c + n (d + e c)`: chunks need
    memory while they run, and may leave some behind.  Sequences of a few chunks of 1, 2, 4, ... steps are tried; the
    longest two of these lengths determine b.

    Args:
        trial: Measures a training step.
        few: Number of chunks in a trial.  At least 2.
        trials: What has been measured already; what is measured later is added.
    """

    def __init__(self, trial: Trial, few: int, trials: Trials) -> None:
        self._trial, self._few, self._trials = trial, few, trials

    @property
    def shortest(self) -> StepMemory:
        """Memory of the least that is tried, a few chunks of one step."""
        return self._measured(1, self._few)

    def lengthen(self, steps: int, budget: float) -> None:
        """Try longer chunks, as long as they are expected to stay within a budget.

        Args:
            steps: Length of the sequence, of which a chunk is a part.  At least 1.
            budget: Most bytes of working memory that a trial should take.
        """
        chunk = 2 * self._longest
        while chunk <= min(steps, LONGEST) and self.at(self._few * chunk, chunk).working <= budget:
            self._measured(chunk, self._few)
            chunk *= 2

    def at(self, steps: int, chunk: int) -> StepMemory:
        """Return the memory of a training step.

        Args:
            steps: Length of the sequence.  At least 1.
            chunk: Steps that run together.  At least 1.
        """
        saved, working = (round(self._at(steps, chunk, field)) for field in ("saved", "working"))
        return StepMemory(saved, working)

    def _at(self, steps: int, chunk: int, field: str) -> float:
        long, more = self._longest, steps / chunk - self._few
        most, behind = self._few_chunks(long, field), self._left_behind(1, field)
        if long == 1:  # steps that run together take no more than as many times one of them
            return chunk * (most + more * behind)
        slope = (most - self._few_chunks(long // 2, field)) / (long - long // 2)
        behind += (self._left_behind(2, field) - behind) * (chunk - 1)
        return most + slope * (chunk - long) + more * behind

    @property
    def _longest(self) -> int:
        return max((chunk for chunk, count in self._trials if count == self._few), default=1)

    def _few_chunks(self, chunk: int, field: str) -> int:
        return getattr(self._measured(chunk, self._few), field)

    def _left_behind(self, chunk: int, field: str) -> float:
        """Return the bytes that a chunk adds to what is there when its successors run."""
        many = getattr(self._measured(chunk, 2 * self._few), field)
        return (many - self._few_chunks(chunk, field)) / self._few

    def _measured(self, chunk: int, count: int) -> StepMemory:
        if (chunk, count) not in self._trials:
            self._trials[chunk, count] = self._trial(chunk * count, chunk)
        return self._trials[chunk, count]
