"""Losses on the last step, the largest output, the spike count and the first spike, beside explicit programs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright._util.lengths import Lengths
from spikewright.continual.heads import TaskLoss
from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.losses import FirstSpike, LastStep, Loss, MaxOverTime, OnRate, PerStep, RateMSE, SpikeCount
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, SLTT
from tests.oracles.machine import Spike

STEPS, BATCH, CLASSES = 6, 4, 3
CE = nn.CrossEntropyLoss()
Y = torch.tensor([2, 0, 1, 0])
LENGTHS = torch.tensor([6, 3, 1, 4])
X = 3 * torch.rand(STEPS, BATCH, 5, generator=torch.Generator().manual_seed(1)).double()


def net(spiking: bool) -> Network:
    """Two layers of neurons, or one and a readout."""
    torch.manual_seed(3)
    end = [LIF(tau=3.0)] if spiking else []
    made = Network(nn.Sequential(nn.Linear(5, 8), LIF(), nn.Linear(8, CLASSES), *end).double())
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(2)
    return made


def unrolled(params: list[Tensor], x: Tensor, spiking: bool, cut: bool = False) -> Tensor:
    """Outputs of the same network, `[time, batch, class]`, from `torch.nn.functional`."""
    w1, b1, w2, b2 = params
    v, u, outputs = torch.zeros(x.shape[1], 8).double(), torch.zeros(x.shape[1], CLASSES).double(), []
    for step in x:
        m = 0.5 * (v.detach() if cut else v) + F.linear(step, w1, b1)
        s = Spike.apply(m - 1)
        v, o = m - s.detach(), F.linear(s, w2, b2)
        if spiking:
            m = (2 / 3) * (u.detach() if cut else u) + o
            o = Spike.apply(m - 1)
            u = m - o.detach()
        outputs.append(o)
    return torch.stack(outputs)


def first_times(spikes: Tensor) -> Tensor:
    """Number of steps before the first spike, of one sequence or several, written out."""
    fired, times = torch.zeros_like(spikes[0]), torch.zeros_like(spikes[0])
    for s in spikes:  # 1 - (1 - fired)(1 - s)
        fired = fired + s - fired * s
        times = times + 1 - fired
    return times


def largest(o: Tensor) -> Tensor:
    """The largest output, of the first step that reaches it."""
    best = o[0]
    for step in o[1:]:
        best = torch.where(step > best, step, best)
    return best


def counted_mse(o: Tensor, y: Tensor) -> Tensor:
    target = torch.full_like(o[0], 0.1)
    target[range(len(y)), y] = 0.7
    return (o.sum(0) - len(o) * target).square().mean()


CASES: dict[str, tuple[Loss, Callable[[Tensor, Tensor], Tensor], bool]] = {
    "last step": (LastStep(CE), lambda o, y: F.cross_entropy(o[-1], y), False),
    "maximum": (MaxOverTime(CE), lambda o, y: F.cross_entropy(largest(o), y), False),
    "count": (SpikeCount(CE), lambda o, y: F.cross_entropy(len(o) * o.mean(0), y), True),
    "count, no spikes": (SpikeCount(CE), lambda o, y: F.cross_entropy(len(o) * o.mean(0), y), False),
    "count, rates": (SpikeCount(RateMSE(0.7, 0.1)), counted_mse, True),
    "first spike": (FirstSpike(CE), lambda o, y: F.cross_entropy(-first_times(o), y), True),
    "first spike, times": (
        FirstSpike(nn.MSELoss(), negate=False),
        lambda o, y: (first_times(o) - F.one_hot(y, CLASSES)).square().mean(),
        True,
    ),
}


def gradients(made: Network, rule: Any, loss: Loss, **given: Any) -> tuple[list[Tensor], Tensor]:
    made.zero_grad()
    y = F.one_hot(Y, CLASSES).double() if isinstance(loss.criterion, nn.MSELoss) else Y
    updates = list(rule.updates(made, X, y, loss, **given))
    return [p.grad.clone() for p in made.parameters()], sum(u.loss for u in updates)  # type: ignore[misc, union-attr]


def by_hand(made: Network, of: Callable[[Tensor, Tensor], Tensor], spiking: bool, cut: bool = False) -> Any:
    params = [p.detach().clone().requires_grad_() for p in made.parameters()]
    value = of(unrolled(params, X, spiking, cut), Y)
    value.backward()
    return [p.grad for p in params], value


def agree(found: Any, expected: Any) -> None:
    for left, right in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found[1].detach(), expected[1].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=4), BPTT(chunk=4, checkpoint=True)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_bptt_are_those_of_an_explicit_program(name: str, rule: BPTT) -> None:
    loss, of, spiking = CASES[name]
    made = net(spiking)
    expected = by_hand(made, of, spiking)
    assert all(bool(g.abs().max() > 1e-6) for g in expected[0])
    agree(gradients(made, rule, loss), expected)


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_the_last_step_alone_teaches_a_rule_without_credit_through_time(chunk: int | None) -> None:
    made = net(False)
    expected = by_hand(made, CASES["last step"][1], False, cut=True)
    agree(gradients(made, SLTT(chunk=chunk), LastStep(CE)), expected)
    assert expected[0][0].abs().max() > 1e-6


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=4), BPTT(chunk=2, checkpoint=True), SLTT()], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_padded_sequences_count_as_each_does_alone(name: str, rule: Any) -> None:
    loss, _, spiking = CASES[name]
    if isinstance(rule, SLTT) and not loss.per_step:
        return
    made, y = net(spiking), F.one_hot(Y, CLASSES).double() if "times" in name else Y
    found = gradients(made, rule, loss, lengths=LENGTHS)
    made.zero_grad()
    values = []
    for n, own in enumerate(LENGTHS.tolist()):
        values += [u.loss for u in rule.updates(made, X[:own, n : n + 1], y[n : n + 1], loss)]
    expected = [p.grad / BATCH for p in made.parameters()], torch.stack(values).mean()  # type: ignore[operator]
    agree(found, expected)
    assert found[0][0].abs().max() > 1e-6


def test_pieces_of_the_last_step_add_up_and_keep_a_graph() -> None:
    output = torch.randn(STEPS, BATCH, CLASSES).double().requires_grad_()
    for loss in LastStep(CE), LastStep(CE).over(Lengths(LENGTHS)):
        whole = loss(output, Y, STEPS)
        parts = [loss(piece, Y, STEPS, start) for piece, start in zip(output.split(2), range(0, STEPS, 2))]
        torch.testing.assert_close(torch.stack(parts).sum(), whole)
        assert all(part.requires_grad for part in parts)
        terms = torch.cat([loss.terms(p, Y, STEPS, t) for p, t in zip(output.split(2), range(0, STEPS, 2))])
        torch.testing.assert_close(terms.sum(), whole)
        last = (STEPS if loss.lengths is None else LENGTHS) * torch.ones(BATCH, dtype=torch.int64) - 1
        assert torch.equal(terms != 0, torch.arange(STEPS)[:, None] == last)


def test_the_gradient_of_a_first_spike_is_the_change_by_flipping_it() -> None:
    spikes = (torch.rand(7, 5, CLASSES, generator=torch.Generator().manual_seed(0)) < 0.25).double()
    assert bool((spikes.sum(0) == 0).any()) and bool((spikes.sum(0) > 1).any())  # silent, and with several spikes
    loss = FirstSpike(CE)
    (slope,) = torch.autograd.grad(loss.times(spikes.requires_grad_()).sum(), spikes)
    for t, n, c in torch.cartesian_prod(*map(torch.arange, spikes.shape)).tolist():
        flipped = spikes.detach().clone()
        flipped[t, n, c] = 1 - flipped[t, n, c]
        change = (loss.times(flipped) - loss.times(spikes)).sum().detach() / (flipped - spikes)[t, n, c].detach()
        torch.testing.assert_close(slope[t, n, c], change)


def test_times_of_first_spikes() -> None:
    train = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]]).unsqueeze(1).double()
    for amplitude in 1.0, 2.5:
        assert FirstSpike(CE).times(amplitude * train).tolist() == [[1, 3, 4, 1]]
    assert FirstSpike(CE).correct(train, torch.tensor([0])) == 1  # the first of the two earliest
    assert FirstSpike(nn.MSELoss(), negate=False).correct(train, torch.tensor([2])) == 0
    assert FirstSpike(CE).times(torch.zeros(3, 1, 2)).tolist() == [[3, 3]]


@pytest.mark.parametrize("bad", [0.3, -1.0, 2.0])
def test_a_first_spike_of_what_are_no_spikes_is_refused(bad: float) -> None:
    output = torch.tensor([0.0, 1.0, bad]).view(3, 1, 1)
    with pytest.raises(IncompatibleRule, match=r"reads the time of the first spike .* holds .* layer of neurons"):
        FirstSpike(CE)(output, torch.tensor([0]), 3)


def test_complex_outputs_have_no_largest_one() -> None:
    output = torch.zeros(3, 1, 2, dtype=torch.complex64)
    with pytest.raises(IncompatibleRule, match=r"MaxOverTime takes the largest output, .* is complex"):
        MaxOverTime(CE)(output, torch.tensor([0]), 3)
    with pytest.raises(IncompatibleRule, match=r"FirstSpike reads spikes, .* is complex"):
        FirstSpike(CE)(output, torch.tensor([0]), 3)


def test_a_sample_is_classified_by_what_the_loss_reads() -> None:
    output = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.5], [0.0, 0.5, 1.0]]).unsqueeze(1)
    answers = {LastStep: 2, MaxOverTime: 0, SpikeCount: 2, OnRate: 2, PerStep: 2}
    for kind, answer in answers.items():
        assert [kind(CE).correct(output, torch.tensor([c])) for c in range(3)] == [int(c == answer) for c in range(3)]
    assert [TaskLoss(MaxOverTime(CE), 3).correct(output, torch.tensor([c])) for c in range(3)] == [1, 0, 0]


def test_padding_is_no_maximum() -> None:
    output = torch.tensor([-3.0, -2.0, 0.0]).view(3, 1, 1).expand(3, 2, 1)
    loss = MaxOverTime(lambda o, _: o.sum()).over(Lengths(torch.tensor([2, 1])))
    assert loss.reduced(output).flatten().tolist() == [-2, -3]
    assert float(loss(output, torch.tensor([0, 0]), 3)) == -5


def test_the_maximum_of_equal_outputs_is_the_first() -> None:
    output = torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1).requires_grad_()
    MaxOverTime(lambda o, _: o.sum())(output, torch.tensor([0]), 3).backward()
    assert output.grad is not None and output.grad.flatten().tolist() == [0, 1, 0]


def test_target_counts_need_not_be_whole_numbers() -> None:
    """With 5 steps and a rate of 0.3 the target is 1.5 spikes, not 1."""
    output = torch.zeros(5, 1, 1)
    value = SpikeCount(RateMSE(correct_rate=0.3))(output, torch.tensor([0]), 5)
    torch.testing.assert_close(value, torch.tensor(2.25))
    torch.testing.assert_close(OnRate(RateMSE(correct_rate=0.3))(output, torch.tensor([0]), 5), torch.tensor(0.09))


@pytest.mark.parametrize("kind", [LastStep, MaxOverTime, SpikeCount, FirstSpike])
def test_what_is_no_criterion_and_no_penalty(kind: Any) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__} was given the class CrossEntropyLoss"):
        kind(nn.CrossEntropyLoss)
    with pytest.raises(ConfigError, match=rf"{kind.__name__}\(penalty=0.1\)"):
        kind(CE, penalty=0.1)
    if not kind.per_step:
        with pytest.raises(IncompatibleRule, match=f"{kind.__name__}.* reads {kind.reads}, so steps have no losses"):
            kind(CE).terms(torch.zeros(2, 1, 3), torch.tensor([0]), 2)
