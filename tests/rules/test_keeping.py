"""Ways not to forget, each against its equation worked out beside it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, EWC, GPM, HLOP, OTTT, SLTT, ContinualRule, LwF, Naive, Replay
from tests.rules.support import collected

CE = PerStep(nn.CrossEntropyLoss())


def small(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), LIF(), nn.Linear(7, 3))
    return Network(module.double())


def batch(seed: int, samples: int = 4, steps: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.rand(steps, samples, 5, generator=generator, dtype=torch.double)
    return x, torch.randint(3, (samples,), generator=generator)


def gradients(rule: Any, net: Network, x: Tensor, y: Tensor, loss: Any = CE) -> dict[str, Tensor]:
    net.zero_grad()
    for _ in rule.updates(net, x, y, loss):
        pass
    return {name: grad.clone() for name, grad in collected(net.module).items()}


AROUND: list[Callable[..., ContinualRule]] = [Naive, EWC, Replay, LwF, HLOP, GPM]


@pytest.mark.parametrize("around", AROUND)
def test_the_first_task_is_learned_as_by_the_rule_inside(around: Callable[..., ContinualRule]) -> None:
    x, y = batch(1)
    expected = gradients(OTTT(), small(), x, y)
    found = gradients(around(OTTT()), small(), x, y)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_springs_pull_parameters_back_to_where_a_task_left_them() -> None:
    net, rule = small(), EWC(SLTT(), strength=3.0, hold=False)
    rule.prepare(net, batch(1)[0])
    net.eval()  # so that a sample's gradient does not depend on the others
    expected: dict[str, Tensor] = {}
    for task in (1, 2):
        x, y = batch(task)
        squares = [gradients(SLTT(), net, x[:, n : n + 1], y[n : n + 1]) for n in range(len(y))]
        left = {name: p.detach().clone() for name, p in net.module.named_parameters()}
        rule.next_task(net, x, y, CE)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))
        for name in left:
            force = torch.stack([s[name] ** 2 for s in squares]).mean(0)
            expected[name] = expected.get(name, 0) - 3.0 * force * left[name]
            expected[f"stiff {name}"] = expected.get(f"stiff {name}", 0) + 3.0 * force
    x, y = batch(9)
    plain, found = gradients(SLTT(), net, x, y), gradients(rule, net, x, y)
    for name, p in net.module.named_parameters():
        springs = expected[f"stiff {name}"] * p.detach() + expected[name]
        assert torch.allclose(found[name], plain[name] + springs, atol=1e-12)
        assert springs.abs().max() > 1e-6


def test_finding_stiffness_leaves_no_mark() -> None:
    net, rule = small(), EWC(OTTT(), hold=False)
    x, y = batch(1)
    rule.prepare(net, x)
    net.module[0].weight.grad = torch.ones(7, 5, dtype=torch.double)
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    rule.next_task(net, x, y, CE)
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())
    assert torch.equal(net.module[0].weight.grad, torch.ones(7, 5, dtype=torch.double))
    assert net.module[3].weight.grad is None


def test_old_samples_are_learned_beside_a_batch() -> None:
    net, rule = small(), Replay(SLTT(), new_share=0.25)
    net.eval()
    old, new = batch(1), batch(2)
    rule.prepare(net, old[0])
    rule.next_task(net, *old, CE)
    found = gradients(rule, net, *new)
    a, b = gradients(SLTT(), net, *new), gradients(SLTT(), net, *old)  # as many as there are, in any order
    assert all(torch.allclose(found[n], 0.25 * a[n] + 0.75 * b[n], atol=1e-14) for n in found)


def test_each_batch_draws_other_old_samples_and_a_resumed_run_the_same() -> None:
    net, rule = small(), Replay(SLTT())
    rule.prepare(net, batch(1)[0])
    rule.next_task(net, *batch(1, samples=40), CE)
    again = Replay(SLTT())
    again.load_state_dict(rule.state_dict())
    draws = [rule.recall(4, 3)[0] for _ in range(3)]
    assert not torch.equal(draws[0], draws[1])
    assert all(torch.equal(draw, again.recall(4, 3)[0]) for draw in draws)
    assert all(len(draw[0].unique(dim=0)) == 4 for draw in draws)


def test_a_static_sample_is_kept_once_and_shown_for_the_length_of_the_batch() -> None:
    net, rule = small(), Replay(SLTT())
    x, y = batch(1, steps=1)
    rule.prepare(net, x)
    rule.next_task(net, x.expand(6, -1, -1), y, CE)
    assert rule.memory["x"].shape == (1, 4, 5)
    shown, _ = rule.recall(4, 5)
    assert shown.shape == (5, 4, 5) and shown.stride(0) == 0
    rule.next_task(net, *batch(2, steps=3), CE)
    assert rule.memory["x"].shape == (3, 8, 5)


@pytest.mark.parametrize("loss", [CE, OnRate(nn.CrossEntropyLoss())])
def test_the_network_of_the_last_task_teaches_what_outputs_should_stay(loss: Any) -> None:
    net, rule = small(), LwF(BPTT(), strength=2.0, temperature=3.0)
    net.eval()
    x, y = batch(1)
    rule.prepare(net, x)
    with torch.no_grad():
        target = (net(x).mean(0) / 3.0).softmax(-1)
    rule.next_task(net, x, y, loss)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))

    def distilled(output: Tensor, _: Tensor) -> Tensor:
        return -2.0 * 9.0 * (target * (output / 3.0).log_softmax(-1)).sum(-1).mean()

    rule.freeze(net)
    found = gradients(rule, net, x, y, loss)
    both = [gradients(BPTT(), net, x, y, loss), gradients(BPTT(), net, x, y, type(loss)(distilled))]
    assert all(torch.allclose(found[n], both[0][n] + both[1][n], atol=1e-12) for n in found)
    assert both[1]["3.weight"].abs().max() > 1e-3


def test_the_lesson_of_the_old_network_leaves_the_new_one_as_it_is() -> None:
    net, rule = small(), LwF(BPTT(), hold=False)
    x, y = batch(1)
    rule.prepare(net, x)
    rule.next_task(net, x, y, CE)
    net.train()
    with torch.no_grad():
        net.module[0].weight.mul_(2)
    other = small()
    other.load_state_dict(net.state_dict())
    gradients(rule, net, x, y)
    for _ in range(2):  # the batch is seen twice, in training mode
        gradients(BPTT(), other, x, y)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values()))
    assert net.training


@pytest.mark.parametrize("around", [Replay, LwF])
def test_two_lessons_need_a_rule_that_updates_once(around: Callable[..., ContinualRule]) -> None:
    with pytest.raises(
        IncompatibleRule, match=r"two sequences in one update.*OTTT\(online=True.*updates at every step"
    ):
        around(OTTT(online=True))


def test_what_is_held_still_is_said_and_seen_to() -> None:
    net, rule = small(), Naive(OTTT())
    x, y = batch(1)
    rule.prepare(net, x)
    rule.next_task(net, x, y, CE)
    with pytest.raises(IncompatibleRule, match=r"'1' normalises by statistics that change \(and 0 more\)"):
        gradients(rule, net, x, y)
    net.module[1].eval()
    with pytest.raises(IncompatibleRule, match=r"'0.bias' may change \(and 3 more\)"):
        gradients(rule, net, x, y)
    net.train()
    rule.freeze(net)
    gradients(rule, net, x, y)
    assert [n for n, p in net.module.named_parameters() if p.requires_grad] == ["0.weight", "3.weight"]


def test_a_free_module_keeps_moving() -> None:
    net, rule = small(), Naive(OTTT(), free=("3",))
    x, y = batch(1)
    rule.prepare(net, x)
    rule.next_task(net, x, y, CE)
    rule.freeze(net)
    assert net.module[3].bias.requires_grad and not net.module[0].bias.requires_grad


def test_eigenvectors_hold_the_share_that_was_asked_for() -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(5, 7, bias=False), LIF(), nn.Linear(7, 3, bias=False)).double())
    rule = GPM(OTTT(), threshold=0.9)
    held: list[float] = []
    for task in (1, 2):
        x, y = batch(task, samples=60)
        rule.prepare(net, x)
        before = rule.subspaces["0"].old.clone()
        rule.next_task(net, x * torch.tensor([1.0, 3.0, 0.1, 0.1, 2.0 * task]), y, CE)
        rows = rule.subspaces["0"].old
        mean = (x * torch.tensor([1.0, 3.0, 0.1, 0.1, 2.0 * task])).mean(0)
        held.append(float((mean @ rows.T).square().sum() / mean.square().sum()))
        less = rows[:-1]
        assert float((mean @ less.T).square().sum() / mean.square().sum()) < 0.9 <= held[-1]
        assert torch.equal(rows[: len(before)], before)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows), dtype=rows.dtype), atol=1e-6)
    rule.freeze(net)
    found = gradients(rule, net, *batch(3))
    assert (found["0.weight"] @ rule.subspaces["0"].old.T).abs().max() < 1e-12 < found["0.weight"].abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_of_what_arrived_is_no_more_directions_than_it_has(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(40, 9, bias=False), LIF(), nn.Linear(9, 3, bias=False)).to(dtype))
    rule = GPM(OTTT(), threshold=1.0)
    x, y = torch.rand(2, 3, 40, dtype=dtype), torch.tensor([0, 1, 2])
    rule.prepare(net, x)
    for task in (1, 2):
        rule.next_task(net, x, y, CE)  # the second has nothing new
        assert len(rule.subspaces["0"].old) == 3, task


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EWC(OTTT(), strength=0), "strength=0"),
        (lambda: Replay(OTTT(), new_share=1.0), "new_share=1.0"),
        (lambda: LwF(OTTT(), temperature=0), "temperature=0"),
        (lambda: GPM(OTTT(), threshold=1.5), "threshold=1.5"),
        (lambda: Naive(HLOP(OTTT())), "Naive was given HLOP"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_cross_entropy_with_probabilities_is_what_is_distilled() -> None:
    output, target = torch.randn(4, 3), torch.rand(4, 3).softmax(-1)
    by_hand = -(target * output.log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(F.cross_entropy(output, target), by_hand)
