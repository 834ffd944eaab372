"""What the two phases of a protocol write down: hyper-parameters that were chosen, and how they did elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from types import MappingProxyType
from typing import Any

from spikewright._util.text import aligned

Values = Mapping[str, Any]
"""One value for every hyper-parameter."""


@dataclass(frozen=True)
class GridPoint:
    """One point of the grid.

    Attributes:
        values: Of the hyper-parameters.
        scores: The metric, by seed; `None` where training did not stay finite.
    """

    values: Values
    scores: tuple[float | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    @property
    def mean(self) -> float:
        """Mean over seeds; minus infinity if one of them failed."""
        scores = [score for score in self.scores if score is not None]
        return fmean(scores) if len(scores) == len(self.scores) else -math.inf

    def tree(self) -> dict[str, Any]:
        """Return plain values."""
        return {"values": dict(self.values), "scores": list(self.scores)}


@dataclass(frozen=True)
class TuningRecord:
    """What tuning found, and of what.

    Attributes:
        best: The trial that won.
        trials: All of them, in the order of the grid.
        seeds: Of its runs.
        setup: What the values were chosen for: algorithm, metric, grid, configuration, number of tasks, data.
        versions: Of the code that ran.
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
        """The values that won."""
        return self.best.values

    def tree(self) -> dict[str, Any]:
        """Return plain values that JSON keeps as they are, for `from_tree`."""
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
    """Both phases.

    Attributes:
        record: Of the first.
        scores: The metric of the second, by seed.
        seeds: Of the second.
        data: The data of both, in words.
    """

    record: TuningRecord
    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    data: tuple[str, str]

    @property
    def score(self) -> float:
        """Mean over seeds of the second phase: the one number to report."""
        return fmean(self.scores)

    @property
    def transfer_gap(self) -> float:
        """Best of the first phase minus the second."""
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
