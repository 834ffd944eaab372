"""Sequences of tasks made of data sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional as F

from spikewright import data as datasets
from spikewright._util.ranges import (
    MOST,
    check_count,
    check_counts,
    check_flag,
    check_instance,
    check_names,
    check_seed,
    check_sizes,
)
from spikewright.data import Dataset, Split
from spikewright.errors import ConfigError


@dataclass(frozen=True)
class Scenario:
    """A sequence of tasks, each made when it is needed. `len(scenario)` is the number of tasks.

    Attributes:
        name: Name in reports.
        makers: Functions without arguments that return the `Dataset` of each task, with labels from 0.
        shape: Shape (C, H, W) of every image, each from 1 to 10**6.
        classes: Number of classes of each task, at least 1.
        heads: True if every task has outputs of its own (task-incremental); its labels then index the outputs of all
            tasks. False if all tasks share the same outputs.

    Raises:
        ConfigError: A number is out of its range.
    """

    name: str
    makers: Sequence[Callable[[], Dataset]]
    shape: tuple[int, int, int]
    classes: int
    heads: bool

    def __post_init__(self) -> None:
        check_sizes("Scenario", shape=self.shape)
        check_counts("Scenario", classes=self.classes)
        check_flag("Scenario", heads=self.heads)

    def __len__(self) -> int:
        return len(self.makers)

    @property
    def outputs(self) -> int:
        """Number of network outputs: `classes`, times the number of tasks if tasks have heads."""
        return self.classes * (len(self) if self.heads else 1)

    def task(self, index: int) -> Dataset:
        """Return the `Dataset` of a task; with heads, its labels index the outputs of all tasks.

        Args:
            index: Number of the task, from 0.

        Raises:
            ConfigError: There is no such task.
        """
        check_count("Scenario.task", "index", index, "tasks are numbered from 0", least=0, most=len(self) - 1)
        task = self.makers[index]()
        if not self.heads:
            return task
        train, test = (Split(s.images, s.labels + index * self.classes) for s in (task.train, task.test))
        return replace(task, train=train, test=test, classes=self.outputs)


def permuted(dataset: Dataset, *, tasks: int = 10, seed: int = 2022) -> Scenario:
    """Return tasks that differ in a fixed random permutation of the pixels, the first included; all share one head.

    Args:
        dataset: `Dataset` of the images.
        tasks: Number of tasks, from 1 to 10**6. Default: 10.
        seed: Seed of the permutations, from 0 to 2**63 - 1. Default: 2022.

    Raises:
        ConfigError: A number is out of its range.

    >>> from spikewright.continual import permuted
    >>> from spikewright.data import load
    >>> len(permuted(load("synthetic"), tasks=3))
    3
    """
    check_instance("permuted", "dataset", dataset, Dataset, "data.load('digits')")
    check_counts("permuted", most=MOST, tasks=tasks)
    check_seed("permuted", seed)
    _, height, width = dataset.shape
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(height * width, generator=generator) for _ in range(tasks)]

    def task(number: int) -> Dataset:
        def shuffled(split: Split) -> Split:
            images = split.images.flatten(2)[..., orders[number]]
            return Split(images.view_as(split.images), split.labels)

        parts = {"train": shuffled(dataset.train), "test": shuffled(dataset.test)}
        return replace(dataset, name=f"{dataset.name}, permutation {number + 1}", augment="none", **parts)

    makers = [partial(task, number) for number in range(tasks)]
    return Scenario(f"permuted {dataset.name}", makers, dataset.shape, dataset.classes, heads=False)


def split(dataset: Dataset, *, tasks: int = 5, heads: bool = True, order: int | None = None) -> Scenario:
    """Return tasks that are groups of classes of one data set.

    Args:
        dataset: `Dataset` of the images.
        tasks: Number of tasks, from 1 to 10**6; it must divide the number of classes. Default: 5.
        heads: True gives each task outputs of its own, False shares `classes / tasks` outputs. Default: True.
        order: Seed of a random order of the classes, from 0 to 2**63 - 1. Default: None, numerical order.

    Raises:
        ConfigError: A number is out of its range, the number of tasks does not divide that of classes, or it leaves one
            class for each task.

    >>> from spikewright.continual import split
    >>> from spikewright.data import load
    >>> scenario = split(load("synthetic", classes=4), tasks=2)
    >>> scenario.outputs, scenario.task(1).train.labels.unique().tolist()
    (4, [2, 3])
    """
    check_instance("split", "dataset", dataset, Dataset, "data.load('digits')")
    check_counts("split", most=MOST, tasks=tasks)
    check_flag("split", heads=heads)
    if order is not None:
        check_seed("split", order, "order")
    if dataset.classes % tasks:
        raise ConfigError(
            f"scenario.tasks = {tasks}: the {dataset.classes} classes of {dataset.name} cannot be split evenly. Give a "
            "number that divides them."
        )
    count = dataset.classes // tasks
    if count < 2:
        raise ConfigError(
            f"scenario.tasks = {tasks} leaves one class for each task of {dataset.name}. Nothing can be learned where "
            "there is one answer: the loss is 0. Give at most half as many tasks as there are classes."
        )
    classes = torch.arange(dataset.classes)
    if order is not None:
        classes = torch.randperm(dataset.classes, generator=torch.Generator().manual_seed(order))
    place = classes.argsort()  # position of each class in the order

    def task(number: int) -> Dataset:
        def part(whole: Split) -> Split:
            places = place[whole.labels]
            mine = (places // count == number).nonzero().flatten()
            return Split(whole.images[mine], places[mine] % count)

        names = ", ".join(str(int(c)) for c in classes[number * count : (number + 1) * count])
        return replace(
            dataset,
            name=f"{dataset.name}, classes {names}",
            train=part(dataset.train),
            test=part(dataset.test),
            classes=count,
        )

    return Scenario(f"split {dataset.name}", [partial(task, n) for n in range(tasks)], dataset.shape, count, heads)


def sequence(dataset: Dataset, *, others: tuple[str, ...] = (), heads: bool = True, side: int = 32) -> Scenario:
    """Return tasks that are whole data sets, with images brought to one size.

    Grey images get three equal channels; smaller images get a zero border.

    Args:
        dataset: `Dataset` of the first task.
        others: Data sets of the other tasks, each `name` or `name:folder` with a name of `spikewright.data.names()`.
            Default: ().
        heads: True gives each task outputs of its own, False shares them. Default: True.
        side: Height and width of all images, from 1 to 10**6, not below that of the largest. Default: 32.

    Raises:
        ConfigError: An argument is out of its range, the data sets differ in their number of classes, or an image is
            larger than `side`.
    """
    check_instance("sequence", "dataset", dataset, Dataset, "data.load('digits')")
    check_names("sequence", "others", others, "('digits', 'mnist:folder')")
    check_flag("sequence", heads=heads)
    check_counts("sequence", most=MOST, side=side)

    def other(text: str) -> Dataset:
        name, _, folder = text.partition(":")
        return _of_size(datasets.load(name, folder or None), side, dataset.classes)

    makers = [lambda: _of_size(dataset, side, dataset.classes), *(partial(other, text) for text in others)]
    return Scenario(f"sequence of {len(makers)} data sets", makers, (3, side, side), dataset.classes, heads)


def _of_size(dataset: Dataset, side: int, classes: int) -> Dataset:
    channels, height, width = dataset.shape
    if dataset.classes != classes or max(height, width) > side or channels not in (1, 3):
        raise ConfigError(
            f"A sequence of data sets has images of at most {side} x {side} with 1 or 3 channels and {classes} classes "
            f"each, but {dataset.name} has {list(dataset.shape)} and {dataset.classes} classes. Leave it out, or raise "
            "scenario.side."
        )
    left, top = (side - width) // 2, (side - height) // 2

    def padded(split: Split) -> Split:
        images = F.pad(split.images, (left, side - width - left, top, side - height - top))
        return Split(images.expand(-1, 3, -1, -1), split.labels)

    mean, std = (row * (3 // channels) for row in (dataset.mean, dataset.std))
    return replace(dataset, train=padded(dataset.train), test=padded(dataset.test), mean=mean, std=std)


SCENARIOS = {"permuted": permuted, "split": split, "sequence": sequence}
"""Functions from a data set to a scenario, by name."""
