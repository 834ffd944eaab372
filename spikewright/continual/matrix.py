"""The accuracy matrix: what is known of every task at the end of every task."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from spikewright.errors import InputError, ShapeError


class AccuracyMatrix:
    r"""Row k holds the accuracies :math:`A_{k,i}` on the tasks i after task k was learned; with K rows,

    .. math::
        \mathrm{ACC} &= \tfrac1K \textstyle\sum_i A_{K,i} \\
        \mathrm{BWT} &= \tfrac1{K-1} \textstyle\sum_{i<K} (A_{K,i} - A_{i,i}) \\
        \mathrm{FWT} &= \tfrac1{K-1} \textstyle\sum_{i>1} (A_{i-1,i} - b_i).

    Everything is a fraction from 0 to 1, or `None` while it is not defined.

    Args:
        baseline: :math:`b_i`: accuracy on each task before anything was learned.

    Raises:
        InputError: An accuracy is not a fraction.

    Reference:
        Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, NeurIPS 2017, Eqs. (2)-(4).

    >>> matrix = AccuracyMatrix()
    >>> matrix.add([0.75])
    >>> matrix.add([0.5, 1.0])
    >>> matrix.acc, matrix.bwt
    (0.75, -0.25)
    """

    def __init__(self, baseline: Sequence[float] | None = None) -> None:
        self.baseline = None if baseline is None else [as_fraction(value, "a baseline") for value in baseline]
        self.rows: list[list[float]] = []

    def add(self, row: Sequence[float]) -> None:
        """Note what a task that has just ended leaves behind.

        Args:
            row: Accuracy on every task seen so far, in order, and if it was measured on later ones.

        Raises:
            ShapeError: A task that was seen is missing, or there are more tasks than in the baseline.
            InputError: An accuracy is not a fraction.
        """
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
        """Mean accuracy on all tasks learned, now."""
        return fmean(self.rows[-1][: len(self.rows)]) if self.rows else None

    @property
    def bwt(self) -> float | None:
        """Backward transfer: mean over old tasks of the accuracy now minus that right after learning."""
        return fmean(-lost for lost in self.forgetting_by_task) if self.forgetting_by_task else None

    @property
    def forgetting_by_task(self) -> list[float]:
        """For each old task, the accuracy right after learning it minus that now."""
        return [self.rows[task][task] - self.rows[-1][task] for task in range(len(self.rows) - 1)]

    @property
    def forgetting(self) -> float | None:
        """Mean of `forgetting_by_task`."""
        return fmean(self.forgetting_by_task) if self.forgetting_by_task else None

    @property
    def maximal_forgetting(self) -> float | None:
        """Mean over old tasks of the best accuracy of earlier rows, from learning the task on, minus that now.

        (Chaudhry et al., Riemannian Walk for Incremental Learning, ECCV 2018.)
        """
        *earlier, now = self.rows or [[]]
        lost = [max(row[task] for row in earlier[task:]) - now[task] for task in range(len(earlier))]
        return fmean(lost) if lost else None

    @property
    def forward_transfer(self) -> float | None:
        """Mean over all tasks but the first of the accuracy just before learning it minus the baseline."""
        learned = range(1, len(self.rows))
        if self.baseline is None or not learned or any(len(self.rows[task - 1]) <= task for task in learned):
            return None
        return fmean(self.rows[task - 1][task] - self.baseline[task] for task in learned)

    def tree(self) -> dict[str, Any]:
        """Return plain values, for `from_tree`."""
        return {"rows": [list(row) for row in self.rows], "baseline": self.baseline and list(self.baseline)}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "AccuracyMatrix":
        """Return the matrix that `tree` was made from."""
        matrix = cls(tree["baseline"])
        for row in tree["rows"]:
            matrix.add(row)
        return matrix


def as_fraction(value: float, where: str) -> float:
    """Return an accuracy as a plain number.

    Raises:
        InputError: It is not between 0 and 1.
    """
    value = float(value)
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise InputError(
            f"An accuracy was given for {where}, and it is {value}. Accuracies are fractions from 0 to 1, so that "
            "their differences mean the same everywhere. Divide percentages by 100."
        )
    return value
