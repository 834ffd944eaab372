"""Results of the two phases of a protocol: the tuned hyper-parameters and their evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any

from spikewright._util.text import aligned

Values = Mapping[str, Any]
"""Value of each hyper-parameter."""


@dataclass(frozen=True)
class GridPoint:
    """One point of the hyper-parameter grid with its scores.

    Attributes:
        values: Value of each hyper-parameter.
        scores: Metric of each seed; `None` if training was not finite.
    """

    values: Values
    scores: tuple[float | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    @property
    def mean(self) -> float:
        """Mean over seeds; minus infinity if a run failed."""
        scores = [score for score in self.scores if score is not None]
        return fmean(scores) if len(scores) == len(self.scores) else -math.inf

    def tree(self) -> dict[str, Any]:
        """Return plain values."""
        return {"values": dict(self.values), "scores": list(self.scores)}


@dataclass(frozen=True)
class TuningRecord:
    """The result of tuning, with the setup it belongs to.

    Attributes:
        best: `GridPoint` with the best mean.
        trials: All grid points, in the order of the grid.
        seeds: Seeds of the runs.
        setup: Algorithm, metric, grid, configuration, number of tasks, and name, classes and digest of the data.
        versions: Versions of spikewright and torch.
    """

    best: GridPoint
    trials: tuple[GridPoint, ...]
    seeds: tuple[int, ...]
    setup: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "setup", MappingProxyType(dict(self.setup)))
        object.__setattr__(self, "versions", MappingProxyType(dict(self.versions)))

    @property
    def values(self) -> Values:
        """Hyper-parameter values of the best point."""
        return self.best.values

    def tree(self) -> dict[str, Any]:
        """Return plain values that JSON can represent and `from_tree` reads."""
        return {
            "best": self.trials.index(self.best),
            "trials": [trial.tree() for trial in self.trials],
            "seeds": list(self.seeds),
            "setup": dict(self.setup),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "TuningRecord":
        """Return the record that `tree` was made from."""
        trials = tuple(GridPoint(trial["values"], tuple(trial["scores"])) for trial in tree["trials"])
        return cls(trials[tree["best"]], trials, tuple(tree["seeds"]), tree["setup"], tree["versions"])


@dataclass(frozen=True)
class ProtocolReport:
    """The results of both phases.

    Attributes:
        record: `TuningRecord` of the first phase.
        scores: Metric of each seed in the second phase.
        seeds: Seeds of the second phase.
        data: Description of the tuning data and of the evaluation data.
    """

    record: TuningRecord
    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    data: tuple[str, str]

    @property
    def score(self) -> float:
        """Mean over seeds of the second phase, the figure to report."""
        return fmean(self.scores)

    @property
    def transfer_gap(self) -> float:
        """Best mean score of the first phase minus the score of the second."""
        return self.record.best.mean - self.score

    def table(self) -> str:
        """Return both phases as aligned text."""
        rows = [("phase", "data", self.record.setup["metric"], "seeds")]
        for phase, data, score, seeds in (
            ("tuning", self.data[0], self.record.best.mean, self.record.seeds),
            ("evaluation", self.data[1], self.score, self.seeds),
        ):
            rows.append((phase, data, f"{score:.4f}", str(len(seeds))))
        rows.append(("transfer gap", "", f"{self.transfer_gap:.4f}", ""))
        return f"{self.record.setup['algorithm']} with {dict(self.record.values)}\n{aligned(rows)}"

    def tree(self) -> dict[str, Any]:
        """Return plain values."""
        phase = {"scores": list(self.scores), "mean": self.score, "seeds": list(self.seeds), "data": list(self.data)}
        return {"record": self.record.tree(), "evaluation": phase, "transfer_gap": self.transfer_gap}
