"""Gradients and shares for training loops of others, in one process and in two."""

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError
from spikewright.train import average_gradients, batch_share
from tests.processes import both


def test_a_single_process_keeps_its_gradients() -> None:
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    average_gradients(net)
    assert net.weight.grad is not None and net.weight.grad.tolist() == [[1.0, 1.0]]
    assert batch_share(4) is None


def averaged(rank: int) -> list[float]:
    first, second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    first.weight.grad = torch.full((1, 1), 1.0 + 2 * rank)
    second.weight.grad = torch.ones(1, 1) if rank else None
    both_of_them = nn.ModuleList([first, second])
    average_gradients(both_of_them, first)  # a parameter counts once
    return [p.grad.item() for p in (first.weight, second.weight) if p.grad is not None]


def test_gradients_are_the_mean_of_two_processes() -> None:
    assert both(averaged) == [[2.0, 0.5]] * 2


def shared(rank: int, sizes: tuple[int, int]) -> tuple[int, int, int, float]:
    share = batch_share(sizes[rank], index=3)
    assert share is not None and share.draws is not None
    return share.total, share.start, share.stop, torch.rand((), generator=share.draws).item()


@pytest.mark.parametrize("sizes", [(4, 4), (5, 4)])
def test_samples_of_two_processes_are_one_batch(sizes: tuple[int, int]) -> None:
    (total, start, stop, drawn), (other_total, other_start, other_stop, other_drawn) = both(shared, sizes)
    assert (total, start, stop) == (sum(sizes), 0, sizes[0])
    assert (other_total, other_start, other_stop) == (sum(sizes), sizes[0], sum(sizes))
    assert drawn == other_drawn


def refused(rank: int, sizes: tuple[int, int]) -> str:
    try:
        batch_share(sizes[rank])
    except sw.errors.InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("sizes", [(4, 5), (6, 2)])
def test_other_numbers_of_samples_are_refused(sizes: tuple[int, int]) -> None:
    for message in both(refused, sizes):
        assert f"they have {list(sizes)} samples, by rank" in message and "drop_last=True" in message


def test_arguments_are_checked() -> None:
    with pytest.raises(ConfigError, match="average_gradients was given list"):
        average_gradients([nn.Linear(1, 1)])  # type: ignore[arg-type]
    for given in ({"samples": 0}, {"samples": 1, "index": -1}, {"samples": 1, "seed": -1}, {"samples": 1.5}):
        with pytest.raises(ConfigError, match="batch_share"):
            batch_share(**given)  # type: ignore[arg-type]
