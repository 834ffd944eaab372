"""The accuracy matrix of continual learning and its averages."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from spikewright._util.arguments import shown
from spikewright._util.ranges import as_float, check_row, single
from spikewright.errors import InputError, ShapeError


class AccuracyMatrix:
    r"""Accuracy :math:`A_{k,i}` on task i after training on task k, one row per finished task.

    With K rows and the baseline b,

    .. math::
        \mathrm{ACC} &= \tfrac1K \textstyle\sum_i A_{K,i} \\
        \mathrm{BWT} &= \tfrac1{K-1} \textstyle\sum_{i<K} (A_{K,i} - A_{i,i}) \\
        \mathrm{FWT} &= \tfrac1{K-1} \textstyle\sum_{i>1} (A_{i-1,i} - b_i).

    Accuracies are fractions from 0 to 1. A metric that is not defined yet is `None`.

    Args:
        baseline: Accuracy on each task before any training, in [0, 1]. Default: None, no forward transfer.

    Raises:
        InputError: An accuracy is not in [0, 1].

    Reference:
        Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017, Eqs. (2)-(4).

    >>> from spikewright.continual import AccuracyMatrix
    >>> matrix = AccuracyMatrix()
    >>> matrix.add([0.75])
    >>> matrix.add([0.5, 1.0])
    >>> matrix.acc, matrix.bwt, matrix.forgetting
    (0.75, -0.25, 0.25)
    """

    def __init__(self, baseline: Sequence[float] | None = None) -> None:
        if baseline is not None:
            baseline = check_row("AccuracyMatrix", "baseline", baseline, "(0.1, 0.1)")
        self.baseline = None if baseline is None else [as_fraction(value, "a baseline") for value in baseline]
        self.rows: list[list[float]] = []

    def add(self, row: Sequence[float]) -> None:
        """Add the row of a task that has just been learned.

        Args:
            row: Accuracy on every task learned so far, in order, optionally followed by those on later tasks; each in
                [0, 1].

        Raises:
            ShapeError: An accuracy of a learned task is missing, or there are more tasks than in the baseline.
            InputError: An accuracy is not in [0, 1].
        """
        row = check_row("AccuracyMatrix.add", "row", row, "(0.5, 0.75)")
        seen = len(self.rows) + 1
        if len(row) < seen or (self.baseline is not None and len(row) > len(self.baseline)):
            known = "" if self.baseline is None else f", and there is a baseline of {len(self.baseline)}"
            raise ShapeError(
                f"Row {seen} of an accuracy matrix was given with {len(row)} accuracies, but {seen} tasks are learned "
                f"by then{known}. What was forgotten or gained shows only where each of them is measured. Give one "
                "accuracy for each task in the order of learning, and a baseline of all tasks or none."
            )
        self.rows.append([as_fraction(value, f"row {seen}") for value in row])

    @property
    def acc(self) -> float | None:
        """ACC: mean of the latest accuracies over all learned tasks."""
        return fmean(self.rows[-1][: len(self.rows)]) if self.rows else None

    @property
    def bwt(self) -> float | None:
        """BWT, backward transfer: mean over old tasks of the latest accuracy minus that right after learning."""
        return fmean(-lost for lost in self.forgetting_by_task) if self.forgetting_by_task else None

    @property
    def forgetting_by_task(self) -> list[float]:
        """Accuracy right after learning minus the latest accuracy, for each old task."""
        return [self.rows[task][task] - self.rows[-1][task] for task in range(len(self.rows) - 1)]

    @property
    def forgetting(self) -> float | None:
        """Mean of `forgetting_by_task`, the negative of `bwt`."""
        return fmean(self.forgetting_by_task) if self.forgetting_by_task else None

    @property
    def maximal_forgetting(self) -> float | None:
        """Mean over old tasks of the best earlier accuracy since learning the task minus the latest.

        (Chaudhry et al., Riemannian Walk for Incremental Learning, ECCV 2018.)
        """
        *earlier, now = self.rows or [[]]
        lost = [max(row[task] for row in earlier[task:]) - now[task] for task in range(len(earlier))]
        return fmean(lost) if lost else None

    @property
    def forward_transfer(self) -> float | None:
        """FWT: mean over all tasks but the first of the accuracy just before learning the task minus the baseline."""
        learned = range(1, len(self.rows))
        if self.baseline is None or not learned or any(len(self.rows[task - 1]) <= task for task in learned):
            return None
        return fmean(self.rows[task - 1][task] - self.baseline[task] for task in learned)

    def tree(self) -> dict[str, Any]:
        """Return plain values that `from_tree` reads."""
        return {"rows": [list(row) for row in self.rows], "baseline": self.baseline and list(self.baseline)}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "AccuracyMatrix":
        """Return the matrix that `tree` was made from."""
        matrix = cls(tree["baseline"])
        for row in tree["rows"]:
            matrix.add(row)
        return matrix


def as_fraction(value: float, where: str) -> float:
    """Return an accuracy as a float.

    Raises:
        InputError: It is not in [0, 1].
    """
    number = as_float(single(value))
    if not 0 <= number <= 1:
        raise InputError(
            f"An accuracy was given for {where}, and it is {shown(value)}. Accuracies are fractions from 0 to 1, so "
            "that their differences mean the same everywhere. Divide percentages by 100."
        )
    return number
