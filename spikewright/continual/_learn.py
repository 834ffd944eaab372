"""The training loop over a sequence of tasks."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from spikewright.continual.course import ContinualExperiment
from spikewright.continual.matrix import AccuracyMatrix
from spikewright.continual.probes import measure, monitor_of
from spikewright.continual.rehearse import rehearse
from spikewright.continual.reporting import Reporter, Silent
from spikewright.errors import CheckpointError
from spikewright.rules import ContinualRule, ProjectedRule
from spikewright.train import checkpoint
from spikewright.train._build import Experiment
from spikewright.train.batch import BatchLearner
from spikewright.train.distributed import Ranks


def learn(
    experiment: ContinualExperiment, out: Path, *, resume: bool = False, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Train on every task of a continual-learning run in sequence, and evaluate all tasks seen after each.

    Writes `config.json`, `last.safetensors` after every epoch, and `result.json`.

    **Checkpointed**: weights, state of rule, optimizer, schedule and monitor, accuracy matrix, random state and
    position.

    Args:
        experiment: `ContinualExperiment` from `build_continual`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run. Default: False.
        reporter: `spikewright.continual.reporting.Reporter` to call with progress. Default: None, no output.

    Returns:
        The contents of `result.json`: `acc`, `bwt`, `forgetting`, `accuracy_matrix` (a row per task learned, a
        column per task tested), `seconds`, `seconds_by_task`, `subspaces` of projecting rules, `monitor` and
        `trajectory` (accuracies between tasks; `None` without probes), and `config`.

    Raises:
        NotFinite: The loss or a gradient is not finite.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False.
    """
    trainer = _Trainer(experiment, out, reporter or Silent())
    if resume:
        trainer.restore(checkpoint.load(out / "last.safetensors"))
    else:
        checkpoint.begin(out, experiment.config)
    try:
        while trainer.index < experiment.tasks:
            trainer.task()
    finally:
        trainer.reporter.stop()
    result = trainer.result()
    checkpoint.write_atomically(out / "result.json", json.dumps(result, indent=2).encode())
    return result


class _Trainer:
    def __init__(self, continual: ContinualExperiment, out: Path, reporter: Reporter) -> None:
        self.continual, self.out, self.reporter = continual, out, reporter
        self.matrix, self.monitor = AccuracyMatrix(), monitor_of(continual)
        self.index = self.epochs = self.updates = 0  # finished tasks, epochs of the current one, updates
        self.seconds: list[float] = []
        self._pending: dict[str, Any] = {}

    def task(self) -> None:
        """Train the current task to its end."""
        continual, index, monitor = self.continual, self.index, self.monitor
        task = continual.scenario.task(index)
        experiment = continual.experiment(index, task)
        learner = BatchLearner(experiment, Ranks())
        if self._pending:
            self._take_up(experiment, learner)
        else:
            self.seconds.append(0.0)
            if monitor is not None:
                monitor.begin_task(index, continual.net, self.updates)
        epochs, batches = continual.config["train"]["epochs"], len(experiment.training)
        self.reporter.begin(index, task.name, batches, epochs, self.epochs * batches)
        while self.epochs < epochs:
            self._epoch(experiment, learner)
            if self.epochs < epochs:
                self._save(experiment, learner)
        if index and continual.settings.rehearse_samples:
            began = time.perf_counter()
            rehearse(continual, index, task)
            self.seconds[-1] += time.perf_counter() - began
        if monitor is not None:
            monitor.end_task(continual.net, self.updates)
        row = measure(continual, index, task)
        self.matrix.add(row)
        if index + 1 < continual.tasks:
            continual.rule.next_task(
                continual.net, *continual.sample(index, task, continual.rule.samples), continual.loss
            )
        self.reporter.end(index, row, self.seconds[-1])
        self.index, self.epochs = index + 1, 0
        self._save()

    def _epoch(self, experiment: Experiment, learner: BatchLearner) -> None:
        net, rule = self.continual.net, self.continual.rule
        net.train()
        rule.freeze(net)
        lost, correct, seen, began = 0.0, 0, 0, time.perf_counter()
        for x, y in experiment.training.epoch(self.epochs):
            learned = learner(x, y)
            experiment.schedule.after_batch()
            self.updates += 1
            lost, correct, seen = lost + learned.loss * len(y), correct + learned.correct, seen + len(y)
            self.reporter.batch(lost / seen, correct / seen)
            if self.monitor is not None:
                paused = time.perf_counter()
                self.monitor.after_step(net, self.updates)
                began += time.perf_counter() - paused
        self.seconds[-1] += time.perf_counter() - began
        experiment.schedule.after_epoch(lost / seen)
        self.epochs += 1

    def result(self) -> dict[str, Any]:
        """Return the contents of `result.json`."""
        continual, matrix, monitor = self.continual, self.matrix, self.monitor
        return {
            "scenario": continual.scenario.name,
            "rule": _short(continual.config["rule"]),
            "seed": continual.config["train"]["seed"],
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
            "config": continual.config,
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        if tree.get("config") != self.continual.config:
            raise CheckpointError(
                f"The checkpoint in {self.out} belongs to another continual-learning run. A resumed run keeps its "
                "configuration. Give the recipe and flags that it began with, or none."
            )
        self.index, self.epochs, self.updates = tree["index"], tree["epochs"], tree["updates"]
        self.seconds, self.matrix = list(tree["seconds"]), AccuracyMatrix.from_tree(tree["matrix"])
        self.continual.net.module.load_state_dict(tree["parts"]["model"])
        self.continual.rule.load_state_dict(tree["parts"]["rule"])
        if self.monitor is not None:
            self.monitor.load_state_dict(tree["monitor"])
        torch.set_rng_state(tree["random"])
        self._pending = tree["parts"] if self.epochs else {}

    def _take_up(self, experiment: Experiment, learner: BatchLearner) -> None:
        experiment.optimizer.load_state_dict(self._pending["optimizer"])
        experiment.schedule.scheduler.load_state_dict(self._pending["schedule"])
        learner.scaler.load_state_dict(self._pending["scaler"])
        self._pending = {}

    def _save(self, experiment: Experiment | None = None, learner: BatchLearner | None = None) -> None:
        """Write a checkpoint; within a task, with the state of optimizer, schedule and loss scaler."""
        parts = {"model": self.continual.net.module.state_dict(), "rule": self.continual.rule.state_dict()}
        if experiment is not None and learner is not None:
            parts["optimizer"] = experiment.optimizer.state_dict()
            parts["schedule"] = experiment.schedule.scheduler.state_dict()
            parts["scaler"] = learner.scaler.state_dict()
        tree = {
            "config": self.continual.config,
            "index": self.index,
            "epochs": self.epochs,
            "updates": self.updates,
            "seconds": self.seconds,
            "matrix": self.matrix.tree(),
            "monitor": None if self.monitor is None else self.monitor.state_dict(),
            "random": torch.get_rng_state(),
            "parts": parts,
        }
        checkpoint.save(self.out / "last.safetensors", tree)


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
