"""Evaluation of a continual-learning run: on all test data after a task, on subsets while one is learned."""

from functools import partial

import torch
from torch import Tensor

from spikewright.continual.course import ContinualExperiment
from spikewright.continual.monitor import ContinualMonitor, Samples
from spikewright.data import Dataset
from spikewright.network import Network
from spikewright.train._evaluate import evaluate


def measure(experiment: ContinualExperiment, index: int, last: Dataset) -> list[float]:
    """Return the test accuracy on every task up to number `index`, whose data set is `last`."""
    tests = [*(experiment.test(i) for i in range(index)), experiment.test(index, last)]
    return [evaluate(experiment.net, test, experiment.loss).accuracy for test in tests]


def monitor_of(experiment: ContinualExperiment) -> ContinualMonitor | None:
    """Return the `ContinualMonitor` that the settings ask for, or `None`."""
    settings = experiment.settings
    if settings.probe_every is None and not settings.probe_dense:
        return None
    return ContinualMonitor(
        [partial(_samples, experiment, index) for index in range(experiment.tasks)],
        every=settings.probe_every,
        subset=settings.probe_samples,
        seed=experiment.config["train"]["seed"],
        dense=settings.probe_dense,
        predict=partial(_predict, experiment),
    )


def _samples(experiment: ContinualExperiment, index: int) -> Samples:
    task = experiment.scenario.task(index)
    return next(experiment.batches(task, task.test, index, batch_size=len(task.test), shuffle=False).epoch(0))


def _predict(experiment: ContinualExperiment, net: Network, x: Tensor, task: int) -> Tensor:
    logits, head = experiment.loss.scores(net(x)), experiment.loss.head
    if head is None:
        return logits
    own = torch.full_like(logits, float("-inf"))
    own[:, task * head : (task + 1) * head] = logits[:, task * head : (task + 1) * head]
    return own
