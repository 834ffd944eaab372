"""Measuring a course: on all of the test data when a task is done, on some of it while one is learned."""

from functools import partial

import torch
from torch import Tensor

from spikewright.continual.course import ContinualExperiment
from spikewright.continual.monitor import ContinualMonitor, Samples
from spikewright.data import Dataset
from spikewright.network import Network
from spikewright.train._evaluate import evaluate


def measure(course: ContinualExperiment, index: int, last: Dataset) -> list[float]:
    """Return the accuracy on the test data of every task up to number `index`, whose data are `last`."""
    tests = [*(course.test(i) for i in range(index)), course.test(index, last)]
    return [evaluate(course.net, test, course.loss).accuracy for test in tests]


def monitor_of(course: ContinualExperiment) -> ContinualMonitor | None:
    """Return what probes all tasks while one is learned, if the settings ask for it."""
    settings = course.settings
    if settings.probe_every is None and not settings.probe_dense:
        return None
    return ContinualMonitor(
        [partial(_samples, course, index) for index in range(course.tasks)],
        every=settings.probe_every,
        subset=settings.probe_samples,
        seed=course.config["train"]["seed"],
        dense=settings.probe_dense,
        predict=partial(_predict, course),
    )


def _samples(course: ContinualExperiment, index: int) -> Samples:
    task = course.scenario.task(index)
    return next(course.batches(task, task.test, index, batch_size=len(task.test), shuffle=False).epoch(0))


def _predict(course: ContinualExperiment, net: Network, x: Tensor, task: int) -> Tensor:
    logits, head = course.loss.mean(net(x)), course.loss.head
    if head is None:
        return logits
    own = torch.full_like(logits, float("-inf"))
    own[:, task * head : (task + 1) * head] = logits[:, task * head : (task + 1) * head]
    return own
