"""Probes while learning: what they measure, when, and that learning does not notice them."""

import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikewright.continual.monitor import ContinualMonitor, mean_over_time
from spikewright.errors import CheckpointError, ConfigError, InputError, ShapeError
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, Rule
from spikewright.temporal import is_static
from spikewright.train import checkpoint
from tests.core.support import CE, Lambda, two_layers
from tests.nets import sample
from tests.rules.support import NOISY

SETS = [sample("mlp", 40 + task, batch=12) for task in range(3)]


class Answers:
    """A `predict` that is right as often as it is told to be, and remembers what it saw."""

    def __init__(self, *shares: float) -> None:
        self.shares, self.seen = iter(shares), []

    def __call__(self, net: Network, x: Tensor, task: int) -> Tensor:
        self.seen.append((task, x.clone()))
        right = round(next(self.shares, 1.0) * x.shape[1])
        y = SETS[task][1]
        answers = torch.where(torch.arange(len(y)) < right, y, (y + 1) % 4)
        return nn.functional.one_hot(answers, 4).double()


def net() -> Network:
    return Network(two_layers())


def probed(monitor: ContinualMonitor, task: int = 0) -> list[int]:
    return [iteration for iteration, _ in monitor.trajectory.probes[task]]


def walk(monitor: ContinualMonitor, net: Network, lengths: tuple[int, ...]) -> Iterator[int]:
    """Go through tasks; yields before every update."""
    step = 0
    for task, length in enumerate(lengths):
        monitor.begin_task(task, net, step)
        for _ in range(length):
            step += 1
            yield step
            monitor.after_step(net, step)
        monitor.end_task(net, step)


def run(monitor: ContinualMonitor, *lengths: int) -> ContinualMonitor:
    for _ in walk(monitor, net(), lengths):
        pass
    return monitor


def test_accuracy_by_hand() -> None:
    module, (x, y) = net(), SETS[0]
    right = int((torch.stack([module(x[:, n : n + 1]).mean(0)[0] for n in range(12)]).argmax(-1) == y).sum())
    assert 0 < right < 12
    for batch in (1, 5, 256):
        monitor = ContinualMonitor(SETS, batch=batch)
        monitor.begin_task(0, module, 0)
        assert monitor.trajectory.latest == [right / 12]


def test_the_trajectory_is_what_was_answered() -> None:
    shares = [0.25, 0.5, 0.0, 1.0, 0.0, 0.5, 0.25, 0.0, 0.0, 0.75, 0.5]  # the last of a task are made again
    monitor = run(ContinualMonitor(SETS, predict=Answers(*shares)), 2, 2)
    assert monitor.trajectory.probes == [
        [(0, 0.25), (1, 0.5), (2, 1.0), (3, 0.5), (4, 0.75)],
        [(2, 0), (3, 0.25), (4, 0.5)],
    ]
    assert (monitor.trajectory.starts, monitor.trajectory.ends) == ([0, 2], [2, 4])
    found = monitor.summary()
    assert (found["min_acc"], found["forgetting"], found["by_task"][0]["gap_depth"]) == (0.5, 0.25, {"1": 0.5})


def test_the_head_of_the_task_that_is_probed() -> None:
    answers = Answers()
    run(ContinualMonitor(SETS, predict=answers), 1, 1, 1)
    assert [task for task, _ in answers.seen] == [0, 0, 0, *(1, 0, 1, 0, 1), *(2, 0, 1, 2, 0, 1, 2)]
    for task, x in answers.seen:
        assert torch.equal(x, SETS[task][0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [*range(13)]),
        ({"every": 4}, [0, 4, 7, 11, 12]),  # counted from the start of a task; its end is always probed
        ({"every": 4, "dense": 2}, [0, 1, 2, 4, 7, 8, 9, 11, 12]),
        ({"every": None, "dense": 1}, [0, 1, 7, 8, 12]),
        ({"every": None}, [0, 7, 12]),
    ],
)
def test_when_it_is_time(options: dict[str, Any], expected: list[int]) -> None:
    assert probed(run(ContinualMonitor(SETS, **options), 7, 5)) == expected


def test_windows_are_those_that_were_asked_for_in_iterations() -> None:
    answers = Answers(1.0, 0.5, 0.0, 0.0)
    found = run(ContinualMonitor(SETS, every=5, windows=(4, 6, 11), predict=answers), 10).summary()
    assert found["windowed_forgetting"] == {"4": None, "6": 0.5, "11": 1.0}


def test_the_subset_is_the_same_at_every_probe() -> None:
    seen: list[Tensor] = []

    def predict(net: Network, x: Tensor, task: int) -> Tensor:
        seen.append(x) if task == 1 else None
        return mean_over_time(net, x, task)

    monitor = run(ContinualMonitor(SETS, subset=5, predict=predict), 1, 3, 2)
    assert len(seen) > 5 and all(torch.equal(x, seen[0]) for x in seen)
    assert seen[0].shape[1] == 5 and len(monitor.summary()["by_task"]) == 3
    members = [any(torch.equal(seen[0][:, i], SETS[1][0][:, j]) for j in range(12)) for i in range(5)]
    assert all(members)


def test_the_seed_draws_the_subset_and_classes_go_with_it() -> None:
    """Labels are positions, so that the accuracy of an oracle shows whether they were taken along."""
    x = torch.arange(40.0).expand(3, 40).unsqueeze(-1)
    chosen: list[list[float]] = []

    def oracle(net: Network, x: Tensor, task: int) -> Tensor:
        chosen.append(x[0, :, 0].tolist())
        return nn.functional.one_hot(x[0, :, 0].long(), 40)

    for seed in (0, 0, 1):
        monitor = ContinualMonitor([(x, torch.arange(40))], subset=10, seed=seed, predict=oracle)
        monitor.begin_task(0, net(), 0)
        assert monitor.trajectory.latest == [1.0]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 10 and chosen[0] != [*range(10)]


def test_a_function_is_asked_once_when_its_task_begins() -> None:
    asked: list[int] = []

    def maker(task: int) -> Callable[[], tuple[Tensor, Tensor]]:
        return lambda: (asked.append(task), SETS[task])[1]

    monitor = ContinualMonitor([maker(0), maker(1)])
    steps = walk(monitor, net(), (2, 2))
    next(steps)
    assert asked == [0]
    assert len([*steps]) == 3 and asked == [0, 1]
    assert monitor.trajectory.probes == run(ContinualMonitor(SETS), 2, 2).trajectory.probes


def test_a_static_input_stays_one_step() -> None:
    x, y = SETS[0]
    static: list[bool] = []

    def predict(net: Network, x: Tensor, task: int) -> Tensor:
        static.append(is_static(x))
        return mean_over_time(net, x, task)

    repeated, monitors = x[0].expand(6, *x[0].shape), []
    for given in (repeated, repeated.clone()):
        monitors.append(ContinualMonitor([(given, y)], subset=7, predict=predict, batch=3))
        monitors[-1].begin_task(0, net(), 0)
    assert static == [True] * 3 + [False] * 3
    assert monitors[0].trajectory.probes == monitors[1].trajectory.probes


def test_a_row_without_numbers_is_wrong() -> None:
    """The largest entry of a row of NaN would be the first."""
    zeros = torch.zeros(12, dtype=torch.long)
    monitor = ContinualMonitor([(SETS[0][0], zeros)], predict=lambda net, x, task: x.mean(0) * torch.nan)
    monitor.begin_task(0, net(), 0)
    assert monitor.trajectory.latest == [0.0]


def test_the_binomial_error() -> None:
    monitor = run(ContinualMonitor(SETS, predict=Answers(*[1.0] * 4, 0.5, 0.5, 0.25, 0.75)), 1, 1)
    found = monitor.summary()
    assert found["by_task"][0]["samples"] == 12
    assert found["by_task"][0]["acc_error"] == pytest.approx((0.25 * 0.75 / 12) ** 0.5)
    assert found["acc_error"] == pytest.approx((2 * 0.25 * 0.75 / 12) ** 0.5 / 2)
    assert found["min_acc_error"] == pytest.approx((0.25 * 0.75 / 12) ** 0.5)
    assert run(ContinualMonitor(SETS), 1).summary()["min_acc_error"] is None


EVENTS: list[tuple[str, int]] = [
    *(("begin_task", 0), *(("after_step", n) for n in range(1, 6)), ("end_task", 5)),
    *(("begin_task", 5), *(("after_step", n) for n in range(6, 10)), ("end_task", 9)),
]


@pytest.mark.parametrize("stop", range(len(EVENTS)))
def test_a_resumed_run_goes_on_as_if_nothing_had_been(stop: int, tmp_path: Path) -> None:
    now = 0

    def predict(net: Network, x: Tensor, task: int) -> Tensor:
        return x[now % 6, :, :4] + x[task, :, 4:]

    def replay(monitor: ContinualMonitor, events: list[tuple[str, int]]) -> ContinualMonitor:
        nonlocal now
        for name, now in events:
            call = getattr(monitor, name)
            call(monitor.trajectory.tasks, net(), now) if name == "begin_task" else call(net(), now)
        return monitor

    def made() -> ContinualMonitor:
        return ContinualMonitor(SETS, every=2, dense=1, subset=7, predict=predict)

    expected = replay(made(), EVENTS)
    checkpoint.save(tmp_path / "monitor", replay(made(), EVENTS[:stop]).state_dict())
    resumed = made()
    resumed.load_state_dict(checkpoint.load(tmp_path / "monitor"))
    replay(resumed, EVENTS[stop:])
    assert resumed.trajectory.probes == expected.trajectory.probes
    assert resumed.summary() == expected.summary()
    assert len({accuracy for _, accuracy in expected.trajectory.probes[0]}) > 2


def test_a_resumed_run_must_be_the_same() -> None:
    state = run(ContinualMonitor(SETS, subset=5), 1).state_dict()
    others: list[dict[str, Any]] = [{"subset": 6}, {"seed": 1}, {"every": 2}, {"dense": 1}, {"windows": (3,)}]
    for options in others:
        with pytest.raises(CheckpointError, match="Construct the monitor with the settings of the state"):
            ContinualMonitor(SETS, **{"subset": 5, **options}).load_state_dict(state)
    with pytest.raises(CheckpointError, match="a state of 1 tasks"):
        ContinualMonitor([], subset=5).load_state_dict(state)
    other = ContinualMonitor([sample("mlp", 40, batch=11), SETS[1]], subset=5)
    other.load_state_dict(state)
    with pytest.raises(CheckpointError, match="task 0 has 11 samples, but the run that is resumed had 12"):
        other.begin_task(1, net(), 2)


def test_the_order_of_calls() -> None:
    monitor, module = ContinualMonitor(SETS[:1]), net()
    with pytest.raises(InputError, match="Call begin_task"):
        monitor.after_step(module, 1)
    with pytest.raises(InputError, match="Begin task 0"):
        monitor.begin_task(1, module, 0)
    monitor.begin_task(0, module, 0)
    monitor.after_step(module, 1)
    with pytest.raises(InputError, match="step 1, and step 1 came before"):
        monitor.after_step(module, 1)
    monitor.end_task(module, 1)
    with pytest.raises(InputError, match="Call begin_task"):
        monitor.end_task(module, 1)
    with pytest.raises(InputError, match="evaluation sets for 1 tasks"):
        monitor.begin_task(1, module, 1)


@pytest.mark.parametrize(
    "options", [{"every": 0}, {"subset": 0}, {"windows": (10, 1)}, {"dense": -1}, {"batch": 0}, {"seed": -1}]
)
def test_numbers_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"ContinualMonitor\({next(iter(options))}="):
        ContinualMonitor(SETS, **options)


def test_layouts() -> None:
    x, y = SETS[0]
    for wrong in ((x, y[:5]), (x.transpose(0, 1), y), (x, y.double()), (x[:, :0], y[:0]), (x, y[:, None])):
        with pytest.raises(ShapeError, match=r"evaluation set of task 0 has inputs"):
            ContinualMonitor([wrong]).begin_task(0, net(), 0)
    with pytest.raises(ShapeError, match=r"12 samples and got \[6, 12, 4\].*averaged over time"):
        ContinualMonitor(SETS, predict=lambda net, x, task: net(x)).begin_task(0, net(), 0)


def noisy(net: Network, x: Tensor, task: int) -> Tensor:
    """Draws from all the sources there are."""
    shift = torch.rand(4, dtype=x.dtype) + random.random() + np.random.rand()
    return net(x * torch.rand(())).mean(0) + shift


def learned(rule: Rule, name: str, probe: Callable[[Network, int], object]) -> dict[str, Any]:
    """All that a noisy training leaves behind; `probe` is called before and after every update."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    module, (x, y) = NOISY[name](), sample(name, 0)
    net, step = Network(module).train(), 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    net.wiring(x)
    probe(net, 0)
    for _ in range(4):
        for _ in rule.updates(net, x, y, CE):
            optimizer.step()
            step += 1
            probe(net, step)
            optimizer.zero_grad()
    drawn = torch.rand(3), random.random(), np.random.rand(3)
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict()["state"], "drawn": drawn}


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("predict", [mean_over_time, noisy])
@pytest.mark.parametrize("make", [BPTT, lambda: OTTT(online=True)], ids=["BPTT", "in the middle of a sequence"])
@pytest.mark.parametrize("name", NOISY)
def test_learning_does_not_notice(name: str, make: Callable[[], Rule], predict: Any) -> None:
    monitor = ContinualMonitor([sample(name, 2, batch=12)], predict=predict)

    def probe(net: Network, step: int) -> None:
        monitor.after_step(net, step) if step else monitor.begin_task(0, net, 0)

    assert_same(learned(make(), name, probe), learned(make(), name, lambda net, step: None))
    assert len(monitor.trajectory.probes[0]) > 4


@pytest.mark.parametrize("mode", [True, False])
def test_it_would_notice_a_probe_that_leaves_marks(mode: bool) -> None:
    """In training mode statistics move and masks are drawn; what `noisy` draws is missed in any mode."""
    x, _ = sample("mlp", 2, batch=12)

    def careless(net: Network, step: int) -> None:
        net.train(mode)
        noisy(net, x, 0)
        net.train()

    with pytest.raises(AssertionError):
        assert_same(learned(BPTT(), "mlp", careless), learned(BPTT(), "mlp", lambda net, step: None))


def test_random_numbers_of_a_probe_are_the_same_each_time() -> None:
    drawn: list[Any] = []

    def predict(net: Network, x: Tensor, task: int) -> Tensor:
        drawn.append((task, torch.rand(2).tolist(), random.random(), np.random.rand()))
        return x.mean(0)

    def loaded() -> tuple[Tensor, Tensor]:
        drawing = torch.rand(5), random.random(), np.random.rand()
        return SETS[1][0] + 0 * drawing[1], SETS[1][1]

    run(ContinualMonitor([SETS[0], loaded], predict=predict), 2, 2)
    assert len(drawn) == 11 and len({str(row[1:]) for row in drawn}) == 1
    run(ContinualMonitor(SETS, seed=2**40, predict=predict), 1)
    assert drawn[-1][1:] != drawn[0][1:]


def writes(m: Any, x: Tensor) -> Tensor:
    m.changed += 1
    m.replaced = m.replaced + 1
    return x


def test_modes_buffers_and_gradients_are_put_back() -> None:
    layer = Lambda(writes)
    layer.register_buffer("changed", torch.zeros(()))
    layer.register_buffer("replaced", torch.zeros(()))
    norm = nn.BatchNorm1d(12).eval()
    module = nn.Sequential(nn.Linear(8, 12), norm, LIF(), layer, nn.Dropout(), nn.Linear(12, 4)).double()
    net = Network(module).train()
    norm.eval()
    weight, bias = module[0].parameters()
    weight.grad = grad = torch.ones_like(weight)
    modes, before = [m.training for m in net.modules()], deepcopy(net.state_dict())
    during: list[bool] = []

    def predict(net: Network, x: Tensor, task: int) -> Tensor:
        during.extend([*(m.training for m in net.modules()), torch.is_grad_enabled()])
        with torch.enable_grad():
            net(x).sum().backward()
        return net(x).mean(0)

    def broken(net: Network, x: Tensor, task: int) -> Tensor:
        predict(net, x, task)
        raise KeyError(task)

    monitor = ContinualMonitor(SETS, predict=predict)
    monitor.begin_task(0, net, 0)
    monitor.predict = broken
    with pytest.raises(KeyError):
        monitor.after_step(net, 1)
    assert during and not any(during)
    assert modes == [m.training for m in net.modules()] and modes.count(False) == 1
    assert_same(net.state_dict(), before)
    assert weight.grad is grad and bool((grad == 1).all()) and bias.grad is None
    assert torch.is_grad_enabled()
