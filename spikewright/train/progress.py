"""The position and counters of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spikewright.train.log import Row

Sum = tuple[float, float]
"""A sum over samples, and the number of those that count, or their weight."""


def add_up(sums: dict[str, Sum], more: Mapping[str, Sum]) -> None:
    """Add sums by name to others."""
    for name, (value, weight) in more.items():
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + value, before[1] + weight)


def mean_of(total: Sum) -> float | None:
    """Return the mean; `None` if no sample counts."""
    return total[0] / total[1] if total[1] else None


@dataclass
class Progress:
    """Position and counters of a run, without weights, optimizer and random state.

    Attributes:
        stage: Number of the current stage, from 0.
        epoch: Number of its current epoch, from 0.
        batch: Batches of it that are finished.
        batches: Batches learned over all epochs and stages.
        sums: Loss and measures by name, summed over the epoch so far, with the weight or number of what counted.
        seconds: Training time in seconds, over all sessions.
        unsolved: Number of batches so far for which the rule did not solve its equation.
        trouble: Reason of the last of them.
        saved_bytes: Peak bytes saved for backward, measured on the first batch.
        best: Merit of the best weights of the stage so far.
        waited: Evaluations since the best one.
        stopped: True if the stage ended early.
        early: Number of earlier stages that ended early.
        rows: History, one row per epoch.
        alignment: Comparisons with the gradient of backpropagation, one row per comparison and parameter.
        changes: Settings that changed when the run was resumed: epoch, key, old and new value.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    batches: int = 0
    sums: dict[str, Sum] = field(default_factory=dict[str, Sum])
    seconds: float = 0.0
    unsolved: int = 0
    trouble: str = ""
    saved_bytes: int = 0
    best: float = float("-inf")
    waited: int = 0
    stopped: bool = False
    early: int = 0
    rows: list[Row] = field(default_factory=list[Row])
    alignment: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, loss: float, weight: float, sums: Mapping[str, Sum]) -> None:
        """Count a batch."""
        add_up(self.sums, {"loss": (loss * weight, weight), **sums})
        self.batch += 1
        self.batches += 1

    @property
    def means(self) -> dict[str, float]:
        """Means over the samples of the epoch so far, by name; those without a sample are left out."""
        return {name: mean for name, total in self.sums.items() if (mean := mean_of(total)) is not None}

    def judge(self, merit: float | None, patience: int | None) -> bool:
        """Return whether weights of this merit are the best so far, and stop the stage if none was for too long."""
        if merit is None:
            return False
        better = merit > self.best  # a NaN is no improvement
        self.waited = 0 if better else self.waited + 1
        self.best = merit if better else self.best
        self.stopped = patience is not None and self.waited >= patience
        return better

    def close_epoch(self, row: Row) -> None:
        """Append the row of the epoch and reset its counters."""
        self.rows.append(row)
        self.epoch += 1
        self.batch, self.sums = 0, {}

    def close_stage(self) -> None:
        """Go on to the next stage."""
        self.early += self.stopped
        self.stage += 1
        self.epoch, self.best, self.waited, self.stopped = 0, float("-inf"), 0, False
