"""The learning rate moves as the formulas say, and takes up its course again from a state."""

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from spikewright.errors import ConfigError
from spikewright.train.components import construct, options
from spikewright.train.schedule import SCHEDULES, Schedule, rehearse

BATCHES, EPOCHS = 4, 3


def schedule(name: str, **arguments: Any) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    return optimizer, construct("schedule", SCHEDULES, {"name": name, **arguments}, optimizer, BATCHES, EPOCHS)


def course(optimizer: torch.optim.Optimizer, plan: Schedule, losses: tuple[float, ...] = (3, 2, 1)) -> Iterator[float]:
    """The learning rate at every batch, and after the last."""
    for loss in losses:
        for _ in range(BATCHES):
            yield optimizer.param_groups[0]["lr"]
            optimizer.step()
            plan.after_batch()
        plan.after_epoch(loss)
    yield optimizer.param_groups[0]["lr"]


def rates(name: str, losses: tuple[float, ...] = (3, 2, 1), **arguments: Any) -> list[float]:
    return list(course(*schedule(name, **arguments), losses))


def by_epoch(name: str, losses: tuple[float, ...] = (3, 2, 1), **arguments: Any) -> list[float]:
    """The learning rate of every epoch, and after the last; it must not move inside one."""
    found = rates(name, losses, **arguments)
    inside = [found[start : start + BATCHES] for start in range(0, len(found), BATCHES)]
    assert all(len(set(epoch)) == 1 for epoch in inside)
    return [epoch[0] for epoch in inside]


def test_cosine_goes_down_after_every_batch() -> None:
    by_hand = [(1 + math.cos(math.pi * done / 12)) / 2 for done in range(13)]
    assert rates("cosine") == pytest.approx(by_hand, abs=1e-12)
    assert by_hand[0] == 1 and by_hand[6] == pytest.approx(0.5) and by_hand[12] == 0


def test_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    found = rates("cosine", warmup=1.0)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5:] == pytest.approx([(1 + math.cos(math.pi * done / 8)) / 2 for done in range(1, 9)], abs=1e-12)


def test_warm_up_may_last_a_fraction_of_an_epoch() -> None:
    assert rates("cosine", warmup=0.5)[:3] == pytest.approx([1 / 3, 2 / 3, 1])


def test_the_floor_is_where_it_ends() -> None:
    found = rates("cosine", floor=0.1)
    assert found[0] == 1 and found[6] == pytest.approx(0.55) and found[-1] == pytest.approx(0.1)
    assert found == sorted(found, reverse=True)


def test_once_per_epoch() -> None:
    assert by_epoch("cosine", per_epoch=True) == pytest.approx([1, 0.75, 0.25, 0], abs=1e-12)
    assert by_epoch("cosine", per_epoch=True, warmup=1) == pytest.approx([0.5, 1, 0.5, 0], abs=1e-12)


def test_warm_up_longer_than_the_run_only_rises() -> None:
    found = rates("cosine", warmup=EPOCHS + 1.0)
    assert found == sorted(found) and found[-1] < 1


def test_constant_is_constant() -> None:
    assert set(rates("constant")) == {1.0}


def test_schedules_of_torch_move_with_the_epochs() -> None:
    assert by_epoch("steplr", step_size=1, gamma=0.5) == [1, 0.5, 0.25, 0.125]
    assert by_epoch("StepLR", step_size=2) == pytest.approx([1, 1, 0.1, 0.1])
    assert by_epoch("multisteplr", milestones=[1, 3], gamma=0.5) == [1, 0.5, 0.5, 0.25]
    assert by_epoch("exponentiallr", gamma=0.5) == [1, 0.5, 0.25, 0.125]
    assert by_epoch("cosineannealinglr", T_max=3) == pytest.approx([1, 0.75, 0.25, 0], abs=1e-12)


def test_one_cycle_spans_its_steps() -> None:
    found = by_epoch("onecyclelr", max_lr=0.5, total_steps=EPOCHS + 1, pct_start=0.5, cycle_momentum=False)
    assert found[0] == pytest.approx(0.5 / 25) and max(found) <= 0.5 and found[-1] < found[0]


def test_the_plateau_is_that_of_the_training_loss() -> None:
    assert by_epoch("reducelronplateau", losses=(3, 2, 1), patience=0) == [1, 1, 1, 1]
    assert by_epoch("reducelronplateau", losses=(1, 1, 1), patience=0) == pytest.approx([1, 1, 0.1, 0.01])


NAMED: dict[str, dict[str, Any]] = {
    "cosine": {"warmup": 1.0, "floor": 0.1},
    "constant": {},
    "steplr": {"step_size": 2},
    "onecyclelr": {"max_lr": 0.5, "total_steps": 8},
    "reducelronplateau": {"patience": 0},
}


@pytest.mark.parametrize("name", NAMED)
def test_a_state_takes_up_the_course_again(name: str) -> None:
    losses = (3.0, 3.0, 2.0)
    optimizer, plan = schedule(name, **NAMED[name])
    before = course(optimizer, plan, losses)
    whole = [next(before) for _ in range(6)]  # five batches are done
    states = deepcopy(optimizer.state_dict()), deepcopy(plan.scheduler.state_dict())
    rest = list(before)
    optimizer, plan = schedule(name, **NAMED[name])
    optimizer.load_state_dict(states[0])
    plan.scheduler.load_state_dict(states[1])
    resumed = [optimizer.param_groups[0]["lr"]]
    for index in range(5, BATCHES * EPOCHS):
        optimizer.step()
        plan.after_batch()
        if index % BATCHES == BATCHES - 1:
            plan.after_epoch(losses[index // BATCHES])
        resumed.append(optimizer.param_groups[0]["lr"])
    assert resumed == [whole[-1], *rest]


def test_what_the_program_knows_cannot_be_set() -> None:
    assert not {"optimizer", "batches", "epochs"} & {key for s in SCHEDULES.values() for key in options(s)}
    assert "step_size" in options(SCHEDULES["steplr"]) and "max_lr" in options(SCHEDULES["onecyclelr"])


def test_arguments_of_torchs_schedules_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"schedule.step is not an argument of StepLR. Did you mean 'step_size'"):
        schedule("steplr", step=3)
    with pytest.raises(ConfigError, match=r"schedule.warmup = 'long' is a str; cosine takes float"):
        schedule("cosine", warmup="long")
    with pytest.raises(ConfigError, match=r"onecyclelr could not be built.*total_steps"):
        schedule("onecyclelr", max_lr=0.5)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("steplr", {"step_size": 30, "gamma": -0.1}, r"StepLR\(gamma=-0.1\): .* at least 0"),
        ("steplr", {"step_size": 0}, r"StepLR\(step_size=0\): .* at least 1"),
        ("cycliclr", {"base_lr": 0.1, "max_lr": 1.0, "mode": "exp_range", "gamma": -1.0}, r"CyclicLR\(gamma=-1.0\)"),
        ("cycliclr", {"base_lr": 0.1, "max_lr": 1.0, "max_momentum": 2.0}, r"\(max_momentum=2.0\): .* in \[0, 1\)"),
        ("cycliclr", {"base_lr": 0.1, "max_lr": 1.0, "cycle_momentum": "no"}, "CyclicLR takes bool"),
        ("multisteplr", {"milestones": [1, -2]}, r"MultiStepLR\(milestones=-2\)"),
        ("multisteplr", {"milestones": "12"}, "schedule.milestones = '12' is a str"),
        ("reducelronplateau", {"min_lr": -1.0}, r"ReduceLROnPlateau\(min_lr=-1.0\)"),
        ("constantlr", {"total_iters": 0}, r"ConstantLR\(total_iters=0\)"),
        ("onecyclelr", {"max_lr": 0.1, "total_steps": 8, "final_div_factor": -1.0}, r"\(final_div_factor=-1.0\)"),
    ],
)
def test_numbers_that_torch_takes_but_nothing_can_learn_from_are_refused(
    name: str, given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        schedule(name, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("constantlr", {"factor": 0.0}),
        ("onecyclelr", {"max_lr": 0.0, "total_steps": 8}),
        ("cosineannealingwarmrestarts", {"T_0": 1, "eta_min": 1e30}),
    ],
)
def test_a_rate_that_is_always_0_is_refused(name: str, given: dict[str, Any]) -> None:
    _, plan = schedule(name, **given)
    with pytest.raises(ConfigError, match=rf"'{name}' does not get through .* always 0, so that nothing is learned"):
        rehearse(plan, EPOCHS, name)
