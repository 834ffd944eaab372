"""Learning some samples of all tasks once more, when one of them is done."""

import torch

from spikewright.continual.course import ContinualExperiment, chosen
from spikewright.data import Dataset


def rehearse(course: ContinualExperiment, index: int, last: Dataset) -> None:
    """Learn by the rule inside, which protects nothing: a batch of every task so far in each step.

    Args:
        course: Whose settings say how many samples, how often, and at which learning rate.
        index: Number of the task that is done.
        last: Its data.
    """
    settings = course.settings
    tasks = [last if i == index else course.scenario.task(i) for i in range(index + 1)]
    few = [task.train.subset(chosen(task, settings.rehearse_samples, course.scenario.classes)) for task in tasks]
    size = course.config["train"]["batch_size"]
    batches = [
        course.batches(task, part, i, batch_size=min(size, len(part))) for i, (task, part) in enumerate(zip(tasks, few))
    ]
    course.net.train()
    course.rule.freeze(course.net)
    optimizer = torch.optim.SGD([p for p in course.net.parameters() if p.requires_grad], settings.rehearse_lr)
    for epoch in range(settings.rehearse_epochs):
        for together in zip(*(b.epoch(epoch) for b in batches)):
            for x, y in together:
                for _ in course.rule.rule.updates(course.net, x, y, course.loss):
                    pass
            optimizer.step()
            optimizer.zero_grad()
