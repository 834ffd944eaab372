"""Tasks that come one after another, as data sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional as F

from spikewright import data as datasets
from spikewright.data import Dataset, Split
from spikewright.errors import ConfigError


@dataclass(frozen=True)
class Scenario:
    """Tasks, made when they are asked for.

    Attributes:
        name: For reports.
        makers: Return the tasks, each with labels from 0.
        shape: (C, H, W) of every image.
        classes: Number of classes of every task.
        heads: Whether every task has outputs of its own; the label then also says which.
    """

    name: str
    makers: Sequence[Callable[[], Dataset]]
    shape: tuple[int, int, int]
    classes: int
    heads: bool

    def __len__(self) -> int:
        return len(self.makers)

    @property
    def outputs(self) -> int:
        """How many outputs a network needs."""
        return self.classes * (len(self) if self.heads else 1)

    def task(self, index: int) -> Dataset:
        """Return a task; with heads, its labels count through the outputs of all of them."""
        task = self.makers[index]()
        if not self.heads:
            return task
        train, test = (Split(s.images, s.labels + index * self.classes) for s in (task.train, task.test))
        return replace(task, train=train, test=test, classes=self.outputs)


def permuted(dataset: Dataset, *, tasks: int = 10, seed: int = 2022) -> Scenario:
    """Tasks that differ in a fixed permutation of the pixels, the first too; one head for all.

    Args:
        dataset: The images.
        tasks: How many.
        seed: Of the permutations.
    """
    _check_tasks(tasks)
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
    """Tasks that are groups of classes.

    Args:
        dataset: The images.
        tasks: How many; the classes must divide by it.
        heads: Give each task outputs of its own; otherwise all tasks share `classes / tasks` outputs.
        order: Seed of a random order of the classes; `None` takes them in the order of their numbers.

    Raises:
        ConfigError: The classes do not divide by the tasks.
    """
    _check_tasks(tasks)
    if dataset.classes % tasks:
        raise ConfigError(
            f"scenario.tasks = {tasks}: the {dataset.classes} classes of {dataset.name} cannot be split evenly. Give a "
            "number that divides them."
        )
    count = dataset.classes // tasks
    classes = torch.arange(dataset.classes)
    if order is not None:
        classes = torch.randperm(dataset.classes, generator=torch.Generator().manual_seed(order))
    place = classes.argsort()  # of a class in the order

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
    """Tasks that are whole data sets; grey images get three equal channels, small ones a border.

    Args:
        dataset: The first of them.
        others: The rest, each `name` or `name:folder`, as for `spikewright train --data NAME --data-dir FOLDER`.
        heads: Give each task outputs of its own.
        side: Height and width of all images.

    Raises:
        ConfigError: Numbers of classes differ, or an image is larger than `side`.
    """

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


def _check_tasks(tasks: int) -> None:
    if tasks < 1:
        raise ConfigError(f"scenario.tasks = {tasks}: there is at least one.")


SCENARIOS = {"permuted": permuted, "split": split, "sequence": sequence}
"""How a data set becomes tasks, by name."""
