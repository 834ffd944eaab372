"""How a data set becomes tasks."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.continual.course import chosen
from spikewright.continual.heads import TaskLoss
from spikewright.continual.scenario import permuted, sequence, split
from spikewright.data import Dataset, Split, load
from spikewright.errors import ConfigError, InputError
from spikewright.losses import OnRate, PerStep

DATA = load("synthetic", classes=6, size=60)


def test_a_permutation_is_fixed_within_a_task_and_another_in_the_next() -> None:
    tasks = permuted(DATA, tasks=3, seed=5)
    first, again, other = tasks.task(0), permuted(DATA, tasks=3, seed=5).task(0), tasks.task(1)
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, DATA.train.images)
    assert not torch.equal(first.train.images, other.train.images)
    order = _order(first.train.images)
    assert torch.equal(first.test.images.flatten(2), DATA.test.images.flatten(2)[..., order])
    assert torch.equal(first.train.labels, DATA.train.labels) and tasks.outputs == 6 and not tasks.heads


def _order(images: Tensor) -> Tensor:
    """Where each pixel came from, found by its values over all images."""
    columns = DATA.train.images.flatten(1).T.float()
    return torch.cdist(images.flatten(1).T.float(), columns).argmin(1)


@pytest.mark.parametrize("order", [None, 3])
def test_every_class_is_in_one_task_and_labels_say_which(order: int | None) -> None:
    tasks = split(DATA, tasks=3, order=order)
    assert (tasks.classes, tasks.outputs, tasks.heads) == (2, 6, True)
    seen = 0
    for index in range(3):
        task = tasks.task(index)
        assert task.train.labels.unique().tolist() == [2 * index, 2 * index + 1]
        for image, label in zip(task.train.images, task.train.labels):
            mine = (DATA.train.images == image).flatten(1).all(1).nonzero().flatten()
            assert len(mine) == 1
            if order is None:
                assert DATA.train.labels[mine] == label
        seen += len(task.train) + len(task.test)
    assert seen == len(DATA.train) + len(DATA.test)


def test_tasks_that_share_outputs_have_labels_from_zero() -> None:
    tasks = split(DATA, tasks=3, heads=False)
    assert tasks.outputs == 2
    assert all(tasks.task(index).test.labels.unique().tolist() == [0, 1] for index in range(3))


@pytest.mark.parametrize("heads", [True, False])
def test_a_choice_has_so_many_samples_of_each_class_however_many_others_have(heads: bool) -> None:
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([50, 4, 7, 30]))
    parts = Split(torch.rand(91, 1, 2, 2), labels), Split(torch.rand(4, 1, 2, 2), torch.arange(4))
    uneven = Dataset("uneven", *parts, classes=4, mean=(0.0,), std=(1.0,))
    tasks = split(uneven, tasks=2, heads=heads)
    for index, counts in enumerate([[20, 4], [7, 20]]):
        task = tasks.task(index)
        few = chosen(task, 20, tasks.classes)
        assert task.train.labels[few].bincount()[-2:].tolist() == counts and len(few.unique()) == len(few)
        assert torch.equal(chosen(task, 50, tasks.classes).sort().values, torch.arange(len(task.train)))


def test_data_sets_in_sequence_have_one_size_and_three_channels() -> None:
    tasks = sequence(load("synthetic", classes=10, size=20), others=("digits",), side=16)
    assert len(tasks) == 2 and tasks.outputs == 20
    grey, digits = tasks.task(0), tasks.task(1)
    assert grey.shape == digits.shape == tasks.shape == (3, 16, 16)
    whole = load("digits")
    assert torch.equal(digits.train.images[:, 1, 4:12, 4:12], whole.train.images[:, 0])
    assert digits.train.images[:, :, :4].max() == 0 and digits.mean == whole.mean * 3
    assert torch.equal(digits.train.labels, whole.train.labels + 10)


def test_what_cannot_be_split_is_said() -> None:
    with pytest.raises(ConfigError, match="6 classes of synthetic cannot be split evenly"):
        split(DATA, tasks=4)
    with pytest.raises(ConfigError, match=r"permuted\(tasks=0\)"):
        permuted(DATA, tasks=0)
    with pytest.raises(ConfigError, match="6 classes each, but digits has"):
        sequence(DATA, others=("digits",)).task(1)


@pytest.mark.parametrize("kind", [PerStep, OnRate])
def test_a_head_is_learned_as_if_there_were_no_other(kind: type[PerStep]) -> None:
    torch.manual_seed(0)
    output = torch.randn(3, 4, 6, dtype=torch.double, requires_grad=True)
    y, mine = torch.tensor([3, 2, 3, 2]), slice(2, 4)
    loss = kind(nn.CrossEntropyLoss())
    TaskLoss(loss, 2)(output, y, 3).backward()
    alone = output.detach()[..., mine].requires_grad_()
    loss(alone, y - 2, 3).backward()
    assert output.grad is not None and alone.grad is not None
    assert torch.equal(output.grad[..., mine], alone.grad)
    assert output.grad[..., :2].abs().max() == output.grad[..., 4:].abs().max() == 0


def test_samples_of_several_tasks_may_be_in_a_batch() -> None:
    output = torch.arange(12.0).view(1, 2, 6)
    loss = TaskLoss(PerStep(nn.CrossEntropyLoss()), 2)
    assert loss.of_task(output, torch.tensor([5, 0])).tolist() == [[[4.0, 5.0], [6.0, 7.0]]]
    assert loss.correct(output, torch.tensor([5, 0])) == 1
    assert torch.equal(loss.terms(output, torch.tensor([5, 0]), 1).sum(), loss(output, torch.tensor([5, 0]), 1))


def test_a_label_beyond_the_heads_is_refused() -> None:
    with pytest.raises(InputError, match="labels from 1 to 6"):
        TaskLoss(PerStep(nn.CrossEntropyLoss()), 2).check(torch.tensor([1, 6]), 3, 2, 6)
