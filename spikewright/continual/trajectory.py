"""Accuracy over the iterations of continual learning, and the metrics of the stability gap."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from statistics import fmean
from typing import Any, Literal

from spikewright._util.ranges import check_count
from spikewright.continual.matrix import as_fraction
from spikewright.errors import ConfigError, InputError

Probes = list[tuple[int, float]]
"""Iterations with the accuracies after them, in ascending order."""
Recovery = int | Literal["never"] | None
"""Iterations until an accuracy has recovered; `None` if it was not probed."""


class Trajectory:
    r"""Accuracies :math:`A_i(n)` on each task i after iteration n, with iterations counted over all tasks.

    With :math:`t_i` the last iteration of task i, and k tasks begun,

    .. math::
        \min\mathrm{ACC} &= \tfrac1{k-1} \textstyle\sum_{i<k} \min_{n > t_i} A_i(n) \\
        \mathrm{WC\text{-}ACC} &= \tfrac1k A_k + (1 - \tfrac1k) \min\mathrm{ACC} \\
        \mathrm{WF}^W_i &= \max_{m < n,\; n - m < W} A_i(m) - A_i(n), \qquad
        \mathrm{WP}^W_i = \max_{m < n,\; n - m < W} A_i(n) - A_i(m).

    Probes may be any number of iterations apart; windows count iterations. Tasks are numbered from 0 in the order of
    learning. Metrics are fractions in [0, 1], or `None` while they are not defined; the forgetting of a task whose
    accuracy only rises is negative.

    **Differs from the reference code**: windowed plasticity takes all pairs, as in the equation.

    Attributes:
        starts: Iteration after which each task began.
        ends: Last iteration of each finished task.
        probes: For each task, a list of (iteration, accuracy).

    Reference:
        De Lange et al., Continual evaluation for lifelong learning: Identifying the stability gap, ICLR 2023,
        arXiv 2205.13452.

    >>> from spikewright.continual import Trajectory
    >>> trajectory = Trajectory()
    >>> trajectory.begin(0)
    >>> trajectory.add(0, 10, 0.9)
    >>> trajectory.end(10)
    >>> trajectory.begin(10)
    >>> for iteration, old in ((11, 0.5), (20, 0.8)):
    ...     trajectory.add(0, iteration, old)
    >>> trajectory.add(1, 20, 1.0)
    >>> trajectory.min_acc, trajectory.wc_acc
    (0.5, 0.75)
    """

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.probes: list[Probes] = []

    @property
    def tasks(self) -> int:
        """Number of tasks begun."""
        return len(self.starts)

    def begin(self, iteration: int) -> None:
        """Begin the next task, whose first update comes after `iteration`.

        Raises:
            InputError: A task is open, or the previous one ended at a later iteration.
        """
        check_count("Trajectory.begin", "iteration", iteration, "updates are counted", least=0)
        if len(self.ends) < self.tasks or iteration < max(self.ends, default=0):
            raise InputError(
                f"Task {self.tasks} was to begin after iteration {iteration}, but of {self.tasks} tasks before it "
                f"{len(self.ends)} have ended, at the iterations {self.ends}. Tasks are learned one after the other, "
                "and iterations are counted through all of them. End a task before the next one begins."
            )
        self.starts.append(iteration)
        self.probes.append([])

    def add(self, task: int, iteration: int, accuracy: float) -> None:
        """Add the accuracy on a task after an iteration; it replaces an earlier one of the same iteration.

        Args:
            task: Number of a task that has begun, from 0.
            iteration: Number of updates so far, over all tasks, not below that of the task's last probe.
            accuracy: Accuracy in [0, 1].

        Raises:
            InputError: The task has not begun, the iteration is before that of its last probe, or the accuracy is not
                in [0, 1].
        """
        check_count("Trajectory.add", "iteration", iteration, "updates are counted", least=0)
        check_count("Trajectory.add", "task", task, "tasks are numbered from 0", least=0)
        known = task < self.tasks
        last = self.probes[task][-1][0] if known and self.probes[task] else -1
        if not known or iteration < last:
            raise InputError(
                f"A probe of task {task} after iteration {iteration} was to be added. {self.tasks} tasks have begun, "
                f"and the last probe of this one was after iteration {last}. Probes are kept in the order of time. "
                "Begin the task first, and count iterations through all tasks."
            )
        accuracy = as_fraction(accuracy, f"task {task}")
        if iteration == last:
            self.probes[task].pop()
        self.probes[task].append((iteration, accuracy))

    def end(self, iteration: int) -> None:
        """End the open task, whose last update is `iteration`.

        Raises:
            InputError: No task is open, or the last probe of a task begun is not of this iteration.
        """
        check_count("Trajectory.end", "iteration", iteration, "updates are counted", least=0)
        missing = [task for task, probes in enumerate(self.probes) if not probes or probes[-1][0] != iteration]
        if len(self.ends) == self.tasks or missing:
            raise InputError(
                f"A task was to end with iteration {iteration}. {self.tasks - len(self.ends)} tasks are open, and the "
                f"tasks {missing} have no probe there as their last. What is forgotten later is measured against these "
                "probes. Begin a task, and probe all tasks begun after its last iteration."
            )
        self.ends.append(iteration)

    def until(self, iteration: int) -> "Trajectory":
        """Return the trajectory up to an iteration; a task that begins right after it is not included."""
        check_count("Trajectory.until", "iteration", iteration, "updates are counted", least=0)
        early = Trajectory()
        early.starts = [start for task, start in enumerate(self.starts) if start < iteration or task == 0]
        early.ends = [end for end in self.ends if end <= iteration]
        early.probes = [[probe for probe in probes if probe[0] <= iteration] for probes in self.probes[: early.tasks]]
        return early

    @property
    def latest(self) -> list[float | None]:
        """Latest accuracy of every task."""
        return [probes[-1][1] if probes else None for probes in self.probes]

    @property
    def minima(self) -> list[float | None]:
        """Lowest accuracy of each old task since its end."""
        since = [[a for n, a in self.probes[task] if n > self.ends[task]] for task in range(self.tasks - 1)]
        return [min(accuracies, default=None) for accuracies in since]

    @property
    def forgetting_by_task(self) -> list[float]:
        """Accuracy of each old task at its end minus the latest."""
        return [_at(self.probes[i], self.ends[i]) - self.probes[i][-1][1] for i in range(self.tasks - 1)]

    @property
    def acc(self) -> float | None:
        """ACC: mean over tasks of the latest accuracy."""
        return _mean_of_all(self.latest)

    @property
    def min_acc(self) -> float | None:
        """min-ACC: mean over old tasks of the lowest accuracy since their end."""
        return _mean_of_all(self.minima)

    @property
    def wc_acc(self) -> float | None:
        """WC-ACC: worst-case accuracy, a lower bound on ACC at all iterations since tasks ended; at most `acc`."""
        now, lowest = self.latest[-1] if self.tasks else None, self.min_acc
        if now is None or self.tasks == 1:
            return now
        return None if lowest is None else now / self.tasks + (1 - 1 / self.tasks) * lowest

    @property
    def forgetting(self) -> float | None:
        """FORG: mean of `forgetting_by_task`."""
        return _mean_of_all(self.forgetting_by_task)

    def windowed_forgetting(self, window: int) -> float | None:
        """WF: mean over tasks of the largest drop of accuracy within `window` iterations, at least 2."""
        return _mean_of_known(self.windowed_forgetting_by_task(window))

    def windowed_forgetting_by_task(self, window: int) -> list[float | None]:
        """Largest drop of each task within `window` iterations; `None` if no two probes lie within a window."""
        return [_largest_drop(probes, window) for probes in self.probes]

    def windowed_plasticity(self, window: int) -> float | None:
        """WP: mean over tasks of the largest rise of accuracy within `window` iterations, at least 2."""
        return _mean_of_known(self.windowed_plasticity_by_task(window))

    def windowed_plasticity_by_task(self, window: int) -> list[float | None]:
        """Largest rise of each task within `window` iterations; `None` if no two probes lie within a window."""
        return [_largest_drop([(n, -a) for n, a in probes], window) for probes in self.probes]

    def lca(self, beta: int = 10) -> float | None:
        """LCA, learning-curve area: mean over tasks of `lca_by_task`."""
        return _mean_of_known(self.lca_by_task(beta))

    def lca_by_task(self, beta: int = 10) -> list[float | None]:
        """Mean accuracy of each task over the probes of its first `beta` iterations, at least 1."""
        _check_count("lca(beta", beta, 1)
        own = [[a for n, a in self._during(i, i) if n <= self.starts[i] + beta] for i in range(self.tasks)]
        return [fmean(accuracies) if accuracies else None for accuracies in own]

    def gap_depth(self, task: int, later: int) -> float | None:
        """Return the accuracy on a task at the start of a later one minus the lowest while the later one is learned."""
        level, during = self._level(task, later), self._during(task, later)
        return level - min(a for _, a in during) if during else None

    def recovery_time(self, task: int, later: int, share: float = 0.95) -> Recovery:
        """Return the iterations from the lowest accuracy to `share` of the accuracy at the start of the later task.

        Returns:
            Number of iterations; "never" if the later task ended before; `None` if it was not probed.
        """
        level, during = self._level(task, later), self._during(task, later)
        if not during:
            return None
        bottom, _ = min(during, key=lambda probe: probe[1])
        enough = share * level - 1e-12  # tolerates the rounding of share * level
        back = [n for n, a in during if n >= bottom and a >= enough]
        return back[0] - bottom if back else "never"

    def summary(self, windows: Sequence[int] = (10, 100), beta: int = 10) -> dict[str, Any]:
        """Return all metrics as plain values: averages, and under `by_task` those of every task.

        `recovery_time` averages over the gaps that closed; `never_recovered` counts the others.

        Args:
            windows: Lengths of windowed forgetting and plasticity in iterations, each at least 2. Default: (10, 100).
            beta: Iterations of the learning-curve area, at least 1. Default: 10.
        """
        falls = {str(w): self.windowed_forgetting_by_task(w) for w in windows}
        rises = {str(w): self.windowed_plasticity_by_task(w) for w in windows}
        columns = zip(self.latest, [*self.minima, None], [*self.forgetting_by_task, None], self.lca_by_task(beta))
        by_task = [
            {
                "acc": latest,
                "min_acc": lowest,
                "forgetting": lost,
                "windowed_forgetting": {w: column[task] for w, column in falls.items()},
                "windowed_plasticity": {w: column[task] for w, column in rises.items()},
                "lca": early,
                "gap_depth": {str(later): self.gap_depth(task, later) for later in range(task + 1, self.tasks)},
                "recovery_time": {str(later): self.recovery_time(task, later) for later in range(task + 1, self.tasks)},
            }
            for task, (latest, lowest, lost, early) in enumerate(columns)
        ]
        depths = [depth for row in by_task for depth in row["gap_depth"].values()]
        times = [time for row in by_task for time in row["recovery_time"].values()]
        return {
            "tasks": self.tasks,
            "acc": self.acc,
            "min_acc": self.min_acc,
            "wc_acc": self.wc_acc,
            "forgetting": self.forgetting,
            "windowed_forgetting": {w: _mean_of_known(column) for w, column in falls.items()},
            "windowed_plasticity": {w: _mean_of_known(column) for w, column in rises.items()},
            "lca": self.lca(beta),
            "gap_depth": _mean_of_known(depths),
            "recovery_time": _mean_of_known(None if time == "never" else time for time in times),
            "never_recovered": times.count("never"),
            "by_task": by_task,
        }

    def tree(self) -> dict[str, Any]:
        """Return plain values that `from_tree` reads."""
        probes = [[list(probe) for probe in probes] for probes in self.probes]
        return {"starts": list(self.starts), "ends": list(self.ends), "probes": probes}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Trajectory":
        """Return the trajectory that `tree` was made from."""
        made = cls()
        made.starts, made.ends = list(tree["starts"]), list(tree["ends"])
        made.probes = [[(n, a) for n, a in probes] for probes in tree["probes"]]
        return made

    def _during(self, task: int, other: int) -> Probes:
        """Return the probes of a task between the updates of another."""
        end = self.ends[other] if other < len(self.ends) else None
        return [(n, a) for n, a in self.probes[task] if n > self.starts[other] and (end is None or n <= end)]

    def _level(self, task: int, later: int) -> float:
        """Return the accuracy on a task just before the first update of a later one."""
        if not 0 <= task < later < self.tasks:
            raise InputError(
                f"The effect of task {later} on task {task} is not defined; {self.tasks} tasks have begun. Only a task "
                "learned before can be disturbed. Give an earlier task and a later one, numbered from 0."
            )
        return _at(self.probes[task], self.starts[later])


def _at(probes: Probes, iteration: int) -> float:
    return [a for n, a in probes if n <= iteration][-1]


def _largest_drop(probes: Probes, window: int) -> float | None:
    """Return the largest drop from an earlier value, less than `window` iterations before."""
    _check_count("a window of (window", window, 2)
    largest: float | None = None
    earlier: deque[tuple[int, float]] = deque()  # probes within the window that are above all later ones
    for n, a in probes:
        while earlier and n - earlier[0][0] >= window:
            earlier.popleft()
        if earlier and (largest is None or earlier[0][1] - a > largest):
            largest = earlier[0][1] - a
        while earlier and earlier[-1][1] <= a:
            earlier.pop()
        earlier.append((n, a))
    return largest


def _check_count(what: str, count: object, least: int) -> None:
    if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
        raise ConfigError(
            f"{what}={count}) was asked for. It is a number of iterations, and fewer than {least} hold nothing to "
            f"compare. Give {least} or more."
        )


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
