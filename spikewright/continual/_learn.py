"""Train on a sequence of tasks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewright.continual.course import ContinualExperiment
from spikewright.continual.matrix import AccuracyMatrix
from spikewright.continual.probes import measure, monitor_of
from spikewright.continual.rehearse import rehearse
from spikewright.rules import ContinualRule, ProjectedRule
from spikewright.train import loop
from spikewright.train._rule_job import RuleJob
from spikewright.train.distributed import Ranks
from spikewright.train.feed import fingerprint
from spikewright.train.job import Learned, Stage, Stateful
from spikewright.train.log import Reporter, Silent
from spikewright.train.progress import Progress
from spikewright.train.result import versions


def learn(
    experiment: ContinualExperiment,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> dict[str, Any]:
    """Train on every task of a continual-learning run in sequence, and evaluate all tasks seen after each.

    Writes `config.json`, `log.csv` (one row per epoch and task), `last.safetensors` (after every epoch, and within one
    if `train.checkpoint_every` is set), `best.safetensors` (of the task that was learned last) and `result.json`.

    **Checkpointed**: weights, state of rule, optimizer, schedule, loss scaler and monitor, accumulated gradients,
    accuracy matrix, random state, position and counters.

    Args:
        experiment: `ContinualExperiment` from `build_continual`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run; without a
            checkpoint the run begins anew. Default: False.
        reporter: `spikewright.train.log.Reporter` to call with progress. Default: `Silent()`, no output.
        ranks: `Ranks` of this process; only rank 0 writes. Default: `Ranks()`, a single process.

    Returns:
        The contents of `result.json`: `acc`, `bwt`, `forgetting`, `accuracy_matrix` (a row per task learned, a
        column per task tested), `seconds`, `seconds_by_task`, `subspaces` of projecting rules, `monitor` and
        `trajectory` (accuracies between tasks; `None` without probes), `config` and `history` (one row per epoch).

    Raises:
        NotFinite: The loss, a gradient or a weight is not finite.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False; or another process trains in it.
    """
    return loop.run(_CourseJob(experiment, ranks), out, resume=resume, reporter=reporter, ranks=ranks)


class _CourseJob(RuleJob):
    """A sequence of tasks, each a stage; what lasts between tasks is the state of the `course`."""

    lengthens = None

    def __init__(self, continual: ContinualExperiment, ranks: Ranks) -> None:
        super().__init__(continual.train, continual.net, continual.rule, ranks)
        self.continual, self.config, self.device = continual, continual.config, continual.device
        self.stages = continual.tasks
        self.fingerprint = fingerprint(continual.dataset)
        self.matrix, self.monitor = AccuracyMatrix(), monitor_of(continual)
        self.seconds: list[float] = []

    def begin(self, progress: Progress, resumed: bool) -> Stage:
        self.task = self.continual.scenario.task(progress.stage)
        built = self.continual.experiment(progress.stage, self.task, self.ranks)
        if not resumed and self.monitor is not None:
            self.monitor.begin_task(progress.stage, self.net, progress.batches)
        stage = self.stage(f"task {progress.stage + 1}", built)
        self.evaluated["test"] = self.continual.test(progress.stage, self.task)
        return stage

    def learn(self, batch: Any, progress: Progress) -> Learned:
        learned = super().learn(batch, progress)
        if self.monitor is not None:
            began = time.perf_counter()
            self.monitor.after_step(self.net, progress.batches + 1)
            progress.seconds -= time.perf_counter() - began  # measuring is no training
        return learned

    def train(self) -> None:
        super().train()
        self.continual.rule.freeze(self.net)

    def end(self, progress: Progress, tell: Callable[[str], None]) -> None:
        continual, index = self.continual, progress.stage
        if index and continual.settings.rehearse_samples:
            began = time.perf_counter()
            rehearse(continual, index, self.task)
            progress.seconds += time.perf_counter() - began
        if self.monitor is not None:
            self.monitor.end_task(self.net, progress.batches)
        row = measure(continual, index, self.task)
        self.matrix.add(row)
        if index + 1 < continual.tasks:
            few = continual.sample(index, self.task, continual.rule.samples)
            continual.rule.next_task(self.net, *few, continual.loss)
        self.seconds.append(progress.seconds - sum(self.seconds))
        shown = " ".join(f"{100 * accuracy:.1f}" for accuracy in row)
        tell(f"task {index + 1}  seconds {self.seconds[-1]:.1f}  accuracy by task, %: {shown}")

    def parts(self) -> dict[str, Stateful]:
        return {**super().parts(), "course": self}

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured of the tasks so far."""
        monitor = None if self.monitor is None else self.monitor.state_dict()
        return {"seconds": self.seconds, "matrix": self.matrix.tree(), "monitor": monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.seconds, self.matrix = list(state_dict["seconds"]), AccuracyMatrix.from_tree(state_dict["matrix"])
        if self.monitor is not None:
            self.monitor.load_state_dict(state_dict["monitor"])

    def result(self, progress: Progress) -> dict[str, Any]:
        continual, matrix, monitor = self.continual, self.matrix, self.monitor
        return {
            "scenario": continual.scenario.name,
            "rule": _short(continual.config["rule"]),
            "seed": self.settings.seed,
            "tasks": continual.tasks,
            "acc": matrix.acc,
            "bwt": matrix.bwt,
            "forgetting": matrix.forgetting,
            "accuracy_matrix": matrix.rows,
            "seconds": sum(self.seconds),
            "seconds_by_task": self.seconds,
            "subspaces": subspaces_of(continual.rule),
            "monitor": None if monitor is None else monitor.summary(),
            "trajectory": None if monitor is None else monitor.trajectory.tree(),
            "unsolved_batches": progress.unsolved,
            "trouble": progress.trouble,
            "alignment": progress.alignment,
            "versions": versions(),
            "config": continual.config,
            "history": progress.rows,
        }


def subspaces_of(rule: ContinualRule) -> dict[str, dict[str, float]]:
    """Return input dimension, number of stored directions and orthogonality error of each projected weight."""
    if not isinstance(rule, ProjectedRule):
        return {}
    return {
        name: {"size": s.size, "rows": len(s.old) + len(s.new), "orthogonality_error": s.orthogonality_error}
        for name, s in rule.subspaces.by_name().items()
    }


def _short(rule: dict[str, Any]) -> str:
    """Return the names of a rule and of the rule inside, such as `hlop:dsr`."""
    return rule["name"] + (f":{_short(rule['rule'])}" if "rule" in rule else "")
