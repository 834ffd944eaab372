"""Rehearsal: training on a few samples of all tasks after each task."""

import torch

from spikewright.continual.course import ContinualExperiment, chosen
from spikewright.data import Dataset


def rehearse(experiment: ContinualExperiment, index: int, last: Dataset) -> None:
    """Train the network on a few samples of every task so far with the inner rule, without protection.

    Each update sums the gradients of one batch per task. Number of samples, epochs and learning rate are those of
    `experiment.settings`.

    Args:
        experiment: `ContinualExperiment` whose network is trained.
        index: Number of the task just learned, from 0.
        last: `Dataset` of that task.
    """
    settings = experiment.settings
    tasks = [last if i == index else experiment.scenario.task(i) for i in range(index + 1)]
    few = [task.train.subset(chosen(task, settings.rehearse_samples, experiment.scenario.classes)) for task in tasks]
    size = experiment.config["train"]["batch_size"]
    batches = [
        experiment.batches(task, part, i, batch_size=min(size, len(part)))
        for i, (task, part) in enumerate(zip(tasks, few))
    ]
    experiment.net.train()
    experiment.rule.freeze(experiment.net)
    optimizer = torch.optim.SGD([p for p in experiment.net.parameters() if p.requires_grad], settings.rehearse_lr)
    for epoch in range(settings.rehearse_epochs):
        for together in zip(*(b.epoch(epoch) for b in batches)):
            for x, y in together:
                for _ in experiment.rule.rule.updates(experiment.net, x, y, experiment.loss):
                    pass
            optimizer.step()
            optimizer.zero_grad()
