"""Learning some samples of all tasks once more, when one of them is done."""

import torch

from spikewright.continual.course import ContinualExperiment, chosen
from spikewright.data import Dataset


def rehearse(experiment: ContinualExperiment, index: int, last: Dataset) -> None:
    """Learn by the rule inside, which protects nothing: a batch of every task so far in each step.

    Args:
        experiment: Whose settings say how many samples, how often, and at which learning rate.
        index: Number of the task that is done.
        last: Its data.
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
