"""Learning one task after another."""

import json
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from spikewright.continual.course import Course, chosen
from spikewright.continual.matrix import AccuracyMatrix
from spikewright.continual.monitor import ContinualMonitor, Samples
from spikewright.data import Dataset
from spikewright.errors import CheckpointError, ConfigError
from spikewright.network import Network
from spikewright.train import checkpoint
from spikewright.train.batch import BatchLearner
from spikewright.train.build import Experiment
from spikewright.train.distributed import Ranks
from spikewright.train.evaluate import evaluate


class Teller(Protocol):
    """Where a course reports to."""

    def begin(self, task: int, name: str, batches: int, epochs: int, done: int) -> None:
        """A task begins, or goes on after so many batches."""

    def batch(self, loss: float, accuracy: float) -> None:
        """A batch is done; the figures are running means of the epoch."""

    def end(self, task: int, row: list[float], seconds: float) -> None:
        """A task is done: accuracies on all tasks so far."""

    def stop(self) -> None:
        """The course is over, or was broken off."""


class Mute:
    """Tells nothing."""

    def begin(self, task: int, name: str, batches: int, epochs: int, done: int) -> None: ...

    def batch(self, loss: float, accuracy: float) -> None: ...

    def end(self, task: int, row: list[float], seconds: float) -> None: ...

    def stop(self) -> None: ...


def learn(course: Course, out: Path, *, resume: bool = False, teller: Teller = Mute()) -> dict[str, Any]:  # noqa: B008
    """Learn every task of a course, and keep everything in a folder.

    Writes `config.json`, `last.safetensors` after every epoch, and `result.json`.

    Args:
        course: What learns what.
        out: The folder.
        resume: Go on from `last.safetensors`, to exactly the weights that an uninterrupted course ends with.
        teller: Told about progress.

    Returns:
        The contents of `result.json`: among others `acc`, `bwt`, `forgetting`, `accuracy_matrix` and `seconds`.

    Raises:
        NotFinite: The loss or a gradient stopped being finite.
        CheckpointError: The folder cannot be written, or there is nothing sound to resume from.
        ConfigError: The folder already holds a course, and `resume` is not set.
    """
    student = _Student(course, out, teller)
    if resume:
        student.restore(checkpoint.load(out / "last.safetensors"))
    else:
        _open(out, course)
    try:
        while student.index < len(course.scenario):
            student.task()
    finally:
        teller.stop()
    result = student.result()
    checkpoint.write_atomically(out / "result.json", json.dumps(result, indent=2).encode())
    return result


class _Student:
    def __init__(self, course: Course, out: Path, teller: Teller) -> None:
        self.course, self.out, self.teller = course, out, teller
        self.matrix = AccuracyMatrix()
        self.index = self.epochs = self.updates = 0
        self.seconds: list[float] = []
        self._pending: dict[str, Any] = {}
        self.monitor = self._monitor()

    def task(self) -> None:
        """Learn the task under way to its end."""
        course, index = self.course, self.index
        task = course.scenario.task(index)
        experiment = course.experiment(index, task)
        learner = BatchLearner(experiment, Ranks())
        if self._pending:
            self._take_up(experiment, learner)
        else:
            self.seconds.append(0.0)
            if self.monitor is not None:
                self.monitor.begin_task(index, course.net, self.updates)
        epochs = course.config["train"]["epochs"]
        self.teller.begin(index, task.name, len(experiment.training), epochs, self.epochs * len(experiment.training))
        while self.epochs < epochs:
            self._epoch(experiment, learner)
            if self.epochs < epochs:
                self._save(experiment, learner)
        if self.monitor is not None:
            self.monitor.end_task(course.net, self.updates)
        if index and course.settings.rehearse_samples:
            self._rehearse(task)
        row = self._measure(task)
        self.matrix.add(row)
        if index + 1 < len(course.scenario):
            course.rule.next_task(course.net, *course.some(index, task, course.rule.samples), course.loss)
        self.teller.end(index, row, self.seconds[-1])
        self.index, self.epochs = index + 1, 0
        self._save(None, None)

    def _epoch(self, experiment: Experiment, learner: BatchLearner) -> None:
        net, rule = self.course.net, self.course.rule
        net.train()
        rule.freeze(net)
        lost, correct, seen, began = 0.0, 0, 0, time.perf_counter()
        for x, y in experiment.training.epoch(self.epochs):
            learned = learner(x, y)
            experiment.schedule.after_batch()
            self.updates += 1
            lost, correct, seen = lost + learned.loss * len(y), correct + learned.correct, seen + len(y)
            self.teller.batch(lost / seen, correct / seen)
            if self.monitor is not None:
                paused = time.perf_counter()
                self.monitor.after_step(net, self.updates)
                began += time.perf_counter() - paused
        self.seconds[-1] += time.perf_counter() - began
        experiment.schedule.after_epoch(lost / seen)
        self.epochs += 1

    def _measure(self, last: Dataset) -> list[float]:
        """Return the accuracy on the test data of every task so far."""
        course = self.course
        row = []
        for index in range(self.index + 1):
            task = last if index == self.index else course.scenario.task(index)
            batches = course.batches(task, task.test, index, batch_size=256, shuffle=False)
            row.append(evaluate(course.net, batches, course.loss).accuracy)
        return row

    def _rehearse(self, last: Dataset) -> None:
        """Learn some samples of every task so far once more, by the rule inside."""
        course, settings = self.course, self.course.settings
        net, rule = course.net, course.rule.rule
        tasks = [last if i == self.index else course.scenario.task(i) for i in range(self.index + 1)]
        few = [t.train.subset(chosen(t, settings.rehearse_samples, course.scenario.classes)) for t in tasks]
        size = course.config["train"]["batch_size"]
        batches = [
            course.batches(t, part, i, batch_size=min(size, len(part))) for i, (t, part) in enumerate(zip(tasks, few))
        ]
        net.train()
        course.rule.freeze(net)
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], settings.rehearse_lr)
        began = time.perf_counter()
        for epoch in range(settings.rehearse_epochs):
            for together in zip(*(b.epoch(epoch) for b in batches)):
                for x, y in together:
                    for _ in rule.updates(net, x, y, course.loss):
                        pass
                optimizer.step()
                optimizer.zero_grad()
        self.seconds[-1] += time.perf_counter() - began

    def result(self) -> dict[str, Any]:
        """Return what `result.json` holds."""
        course, matrix = self.course, self.matrix
        return {
            "scenario": course.scenario.name,
            "rule": _short(course.config["rule"]),
            "seed": course.config["train"]["seed"],
            "tasks": len(course.scenario),
            "acc": matrix.acc,
            "bwt": matrix.bwt,
            "forgetting": matrix.forgetting,
            "accuracy_matrix": matrix.rows,
            "metrics": matrix.tree(),
            "seconds": sum(self.seconds),
            "seconds_by_task": self.seconds,
            "monitor": None if self.monitor is None else self.monitor.summary(),
            "trajectory": None if self.monitor is None else self.monitor.trajectory.tree(),
            "config": course.config,
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Go on where `_save` left off."""
        if tree.get("config") != self.course.config:
            raise CheckpointError(
                f"The checkpoint in {self.out} is of another course. A course is resumed as it was begun: give the "
                "same recipe and flags, or none."
            )
        self.index, self.epochs, self.updates = tree["index"], tree["epochs"], tree["updates"]
        self.seconds, self.matrix = list(tree["seconds"]), AccuracyMatrix.from_tree(tree["matrix"])
        self.course.net.module.load_state_dict(tree["parts"]["model"])
        self.course.rule.load_state_dict(tree["parts"]["rule"])
        if self.monitor is not None:
            self.monitor.load_state_dict(tree["monitor"])
        torch.set_rng_state(tree["random"])
        self._pending = tree["parts"] if self.epochs else {}

    def _take_up(self, experiment: Experiment, learner: BatchLearner) -> None:
        experiment.optimizer.load_state_dict(self._pending["optimizer"])
        experiment.schedule.scheduler.load_state_dict(self._pending["schedule"])
        learner.scaler.load_state_dict(self._pending["scaler"])
        self._pending = {}

    def _save(self, experiment: Experiment | None, learner: BatchLearner | None) -> None:
        parts: dict[str, Any] = {
            "model": self.course.net.module.state_dict(),
            "rule": self.course.rule.state_dict(),
        }
        if experiment is not None and learner is not None:  # inside a task
            parts |= {
                "optimizer": experiment.optimizer.state_dict(),
                "schedule": experiment.schedule.scheduler.state_dict(),
                "scaler": learner.scaler.state_dict(),
            }
        tree = {
            "config": self.course.config,
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

    def _monitor(self) -> ContinualMonitor | None:
        course, settings = self.course, self.course.settings
        if settings.probe_every is None and not settings.probe_dense:
            return None

        def samples(index: int) -> Samples:
            task = course.scenario.task(index)
            return next(course.batches(task, task.test, index, batch_size=len(task.test), shuffle=False).epoch(0))

        def predict(net: Network, x: Tensor, task: int) -> Tensor:
            logits = course.loss.mean(net(x))
            if course.loss.head is None:
                return logits
            heads = torch.full_like(logits, float("-inf"))
            own = slice(task * course.loss.head, (task + 1) * course.loss.head)
            heads[:, own] = logits[:, own]
            return heads

        return ContinualMonitor(
            [lambda i=i: samples(i) for i in range(len(course.scenario))],
            every=settings.probe_every,
            subset=settings.probe_samples,
            seed=course.config["train"]["seed"],
            dense=settings.probe_dense,
            predict=predict,
        )


def _short(rule: dict[str, Any]) -> str:
    """Return the names of a rule and of what is inside, as in `hlop:dsr`."""
    return rule["name"] + (f":{_short(rule['rule'])}" if "rule" in rule else "")


def _open(out: Path, course: Course) -> None:
    """Make the folder of a new course and write its configuration."""
    checkpoint.require()
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / "last.safetensors").exists():
            raise ConfigError(
                f"The folder {out} already holds a course. Nothing was overwritten. Continue it with --resume {out}, "
                "or choose another --out."
            )
        checkpoint.write_atomically(out / "config.json", json.dumps(course.config, indent=2).encode())
    except OSError as error:
        raise CheckpointError(
            f"The course was to be written to {out}, but that is not possible: {error.strerror}. Choose a folder that "
            "can be written with --out. Nothing was learned."
        ) from error
