"""A padded batch learns what its sequences learn one by one, and what cannot is refused."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.continual.heads import TaskLoss
from spikewright.errors import IncompatibleRule, InputError, ShapeError
from spikewright.losses import Loss, OnRate, PerStep
from spikewright.rules import BPTT, DSR, EWC, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, LwF, Naive, Replay, Rule
from spikewright.solvers import FixedPoint
from spikewright.spatial import DFA, DKP, FA, ZO, Local, SignSymmetric

STEPS, LENGTHS = 7, torch.tensor([7, 2, 5, 1, 2])
BATCH, CLASSES = len(LENGTHS), 3
Y = torch.tensor([0, 2, 1, 1, 2])


def data(padding: float = 5.0) -> Tensor:
    """Sequences with noise behind their ends."""
    source = torch.Generator().manual_seed(1)
    x = 3 * torch.rand(STEPS, BATCH, 4, generator=source).double()
    after = torch.arange(STEPS)[:, None] >= LENGTHS
    return torch.where(after[..., None], padding * torch.rand(x.shape, generator=source).double(), x)


@cache
def chain(**given: Any) -> sw.Network:
    torch.manual_seed(0)
    layers = nn.Linear(4, 9), sw.LIF(tau=3.0, **given), nn.Linear(9, 8), sw.LIF(**given), nn.Linear(8, CLASSES)
    net = sw.Network(nn.Sequential(*layers).double())
    for p in net.parameters():
        p.data *= 2
    return net


@cache
def loop() -> sw.Network:
    torch.manual_seed(0)
    layers = nn.Linear(4, 8), sw.Feedback(nn.Linear(8, 8), "2"), sw.LIF(), nn.Linear(8, CLASSES)
    net = sw.Network(nn.Sequential(*layers).double())
    with torch.no_grad():
        net.module[1].transform.weight.mul_(0.3)  # type: ignore[index, union-attr]
    return net


CE = nn.CrossEntropyLoss()
Make = Callable[[], Rule]
OF_TIME: dict[str, Make] = {
    "BPTT": BPTT,
    "BPTT, chunks": lambda: BPTT(chunk=3),
    "BPTT, again": lambda: BPTT(chunk=3, checkpoint=True),
    "SLTT": SLTT,
    "SLTT, chunks": lambda: SLTT(chunk=4),
    "OTTT": OTTT,
    "OTTT, reference": lambda: OTTT(reference=True, chunk=2),
    "OTTT, online": lambda: OTTT(online=True),
    "FA": lambda: OTTT(spatial=FA()),
    "signs": lambda: SLTT(spatial=SignSymmetric()),
    "DFA": lambda: OTTT(spatial=DFA()),
    "DKP": lambda: OTTT(spatial=DKP(lr=0.0, decay=0.0)),
    "around": lambda: Naive(OTTT()),
    "EWC": lambda: EWC(BPTT()),
}
OF_RATES: dict[str, Make] = {
    "DSR": DSR,
    "DSR, chunks": lambda: DSR(chunk=3),
    "IDE": lambda: IDE(FixedPoint(iterations=200, tolerance=1e-14)),
    "SPIDE": lambda: SPIDE(steps=20),
}


def gradients(net: sw.Network, rule: Rule, x: Tensor, y: Tensor, loss: Loss, **given: Any) -> tuple[Any, Tensor, Any]:
    net.zero_grad()
    updates = list(rule.updates(net, x, y, loss, **given))
    value = torch.stack([update.loss for update in updates]).sum()
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}, value, updates


def one_by_one(net: sw.Network, make: Make, x: Tensor, y: Tensor, loss: Loss) -> tuple[dict[str, Tensor], Tensor, Any]:
    """Sum of the gradients of the sequences alone, each over the number of sequences."""
    total: dict[str, Tensor] = {}
    value, rates = torch.zeros(()), {}
    for n, length in enumerate(LENGTHS.tolist()):
        target = y[:length, n : n + 1] if loss.timed else y[n : n + 1]
        rule = make()
        rule.prepare(net, x)
        found, own, updates = gradients(net, rule, x[:length, n : n + 1], target, loss)
        total.update({name: total.get(name, 0) + grad / BATCH for name, grad in found.items()})
        value = value + own / BATCH
        for site, rate in updates[-1].rates.items():
            rates[site] = rates.get(site, 0) + rate * length / int(LENGTHS.sum())
    return total, value, rates


def agree(net: sw.Network, make: Make, x: Tensor, y: Tensor, loss: Loss) -> None:
    alone, own, rates = one_by_one(net, make, x, y, loss)
    rule = make()
    rule.prepare(net, x)
    found, value, updates = gradients(net, rule, x, y, loss, lengths=LENGTHS)
    assert found.keys() == alone.keys() and all(grad.any() for grad in alone.values())
    torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(value, own, rtol=1e-10, atol=0)
    torch.testing.assert_close(updates[-1].rates, rates, rtol=1e-5, atol=0)
    assert all(0.02 < rate < 0.98 for rate in rates.values())


@pytest.mark.parametrize("name", OF_TIME)
def test_rules_of_time(name: str) -> None:
    agree(chain(), OF_TIME[name], data(), Y, PerStep(CE))
    agree(loop(), OF_TIME[name], data(), Y, PerStep(nn.CrossEntropyLoss(reduction="mean", label_smoothing=0.1)))


@pytest.mark.parametrize("name", OF_RATES)
def test_rules_of_rates(name: str) -> None:
    x, net = data(), loop() if name in ("IDE", "SPIDE") else chain()
    if name == "SPIDE":
        net = sw.Network(nn.Sequential(nn.Linear(4, 8), sw.IF(rest=-1.0), nn.Linear(8, CLASSES)).double())
    agree(net, OF_RATES[name], x, Y, OnRate(CE))


LOSSES: dict[str, tuple[Loss, Tensor]] = {
    "on the mean": (OnRate(CE), Y),
    "on a leaky mean": (OnRate(CE, leak=0.7), Y),
    "of each step": (PerStep(CE, timed=True), torch.randint(CLASSES, (STEPS, BATCH))),
    "of each step, values": (PerStep(nn.MSELoss(), timed=True), torch.rand(STEPS, BATCH, CLASSES).double()),
    "a function": (PerStep(lambda o, y: (o - y[:, None]).square().mean()), Y),
    "heads": (TaskLoss(PerStep(CE), 1), Y),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    loss, y = LOSSES[name]
    if name == "heads":
        loss = TaskLoss(PerStep(lambda o, y: (o - 1).square().mean()), 1)
    agree(chain(), BPTT, data(), y, loss)


@pytest.mark.parametrize("spatial", [None, DFA()])
def test_errors_of_local_readouts(spatial: Any) -> None:
    def make() -> Rule:
        torch.manual_seed(3)
        rule = SLTT(local=Local(), **({} if spatial is None else {"spatial": spatial}))
        rule.prepare(net, data())
        rule.double()
        return rule

    net = chain()
    agree(net, make, data(), Y, PerStep(CE))


def test_padding_has_no_effect() -> None:
    """Whatever it is, also labels that no class has; and lengths of all steps are no lengths."""
    net, y = chain(), torch.randint(CLASSES, (STEPS, BATCH))
    wrong = torch.where(torch.arange(STEPS)[:, None] >= LENGTHS, -100, y)
    for make in BPTT, OTTT, lambda: SLTT(spatial=ZO()):
        first, *others = (
            gradients(net, make(), x, labels, PerStep(CE, timed=True), lengths=LENGTHS)[0]
            for x, labels in ((data(), y), (data(0.0), y), (data(), wrong))
        )
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-11, atol=1e-14)
    whole = torch.full((BATCH,), STEPS)
    for rule, loss in ((BPTT(), PerStep(CE)), (DSR(), OnRate(CE))):
        found, plain = (gradients(net, rule, data(), Y, loss, **given)[0] for given in ({"lengths": whole}, {}))
        torch.testing.assert_close(found, plain, rtol=1e-11, atol=1e-14)


def test_class_weights_weigh_sequences() -> None:
    """The share of a sequence is its weight over that of all, as in a batch of sequences of one length."""
    weight, net = torch.tensor([1.0, 4.0, 2.0]).double(), chain()
    found = gradients(net, BPTT(), data(), Y, PerStep(nn.CrossEntropyLoss(weight)), lengths=LENGTHS)[0]
    total: dict[str, Tensor] = {}
    for n, length in enumerate(LENGTHS.tolist()):
        own = gradients(net, BPTT(), data()[:length, n : n + 1], Y[n : n + 1], PerStep(CE))[0]
        share = weight[Y[n]] / weight[Y].sum()
        total.update({name: total.get(name, 0) + share * grad for name, grad in own.items()})
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-13)


def test_drawn_steps() -> None:
    """With SLTT-K the steps that are drawn are the same; those behind the end of a sequence add nothing."""
    net = chain()
    found = gradients(net, SLTT(k=3, seed=2), data(), Y, PerStep(CE), lengths=LENGTHS)[0]
    other = gradients(net, SLTT(k=3, seed=2), data(0.0), Y, PerStep(CE), lengths=LENGTHS)[0]
    torch.testing.assert_close(found, other, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("rule", [BPTT(chunk=2), OTTT(), OTTT(online=True), DSR()], ids=str)
def test_outputs_and_states(rule: Rule) -> None:
    net, x = chain(), data()
    loss = OnRate(CE) if rule.traits.loss == "rate" else PerStep(CE)
    updates = list(rule.updates(net, x, Y, loss, lengths=LENGTHS))
    output, state = net.run(x, lengths=LENGTHS)
    plain, _ = net.run(x)
    valid = torch.arange(STEPS)[:, None] < LENGTHS
    assert torch.equal(output, torch.where(valid[..., None], plain, 0))
    assert torch.equal(torch.cat([update.output for update in updates]), output.detach())
    alone = [int(loss.mean(plain[:length, n : n + 1]).argmax()) for n, length in enumerate(LENGTHS.tolist())]
    assert loss.correct(output, torch.tensor(alone)) == BATCH
    for left in state, updates[-1].state:
        for values in left.values():
            for value in values.values():
                assert not value.dim() or (value[0].isfinite().all() and value[1:].isnan().all())
    with pytest.raises(InputError, match="NaN"):
        net.run(x, state)
    going_on = {site: {name: value[:1] for name, value in values.items()} for site, values in state.items()}
    net.run(x[:, :1], going_on)


def test_the_check_of_gradients() -> None:
    net, x = chain(), data()
    for rule in OTTT(), SLTT(), BPTT(chunk=2):
        check = sw.certify(net, rule, x, Y, PerStep(CE), lengths=LENGTHS)
        assert check.ok and any(row.exact for row in check.rows)
    first, second = (sw.certify(net, OTTT(), each, Y, PerStep(CE), lengths=LENGTHS).rows for each in (x, data(0.0)))
    for a, b in zip(first, second):
        assert a.relative_error == pytest.approx(b.relative_error, rel=1e-6, abs=1e-12)


NO_LENGTHS: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([7, 2, 5, 1, 2], ShapeError, r"lengths has to be a tensor.*torch.as_tensor\(lengths\)"),
    "too few": (LENGTHS[:4], ShapeError, r"lengths has the shape \[4\].*Give int64 numbers, \[5\]"),
    "a column": (LENGTHS[:, None], ShapeError, r"lengths has the shape \[5, 1\]"),
    "real": (LENGTHS.double(), ShapeError, "the type torch.float64"),
    "a mask": (LENGTHS > 2, ShapeError, "the type torch.bool"),
    "none left": (LENGTHS - 1, InputError, r"lengths\[3\] is 0, but x has 7 steps"),
    "too long": (LENGTHS + 1, InputError, r"lengths\[0\] is 8, but x has 7 steps"),
}


@pytest.mark.parametrize("name", NO_LENGTHS)
def test_lengths_that_are_none(name: str) -> None:
    lengths, error, message = NO_LENGTHS[name]
    for use in (
        lambda net: net.run(data(), lengths=lengths),
        lambda net: BPTT().updates(net, data(), Y, PerStep(CE), lengths=lengths),
        lambda net: sw.certify(net, BPTT(), data(), Y, PerStep(CE), lengths=lengths),
    ):
        with pytest.raises(error, match=message):
            use(chain())


@pytest.mark.parametrize(
    "rule",
    [OPZO(), HLOP(OTTT()), Replay(BPTT()), LwF(BPTT()), DSR(reference=True), Naive(OPZO())],
    ids=lambda rule: str(type(rule).__name__),
)
def test_rules_that_padding_would_teach(rule: Rule) -> None:
    loss = OnRate(CE) if rule.traits.loss == "rate" else PerStep(CE)
    net = chain()
    with pytest.raises(IncompatibleRule, match="was given lengths of sequences, but it does not declare"):
        rule.updates(net, data(), Y, loss, lengths=LENGTHS)


def test_norms_of_the_batch() -> None:
    """Padding would count in the statistics of steps, but not in those of means."""
    net = sw.Network(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), sw.IF(), nn.Linear(8, CLASSES)).double())
    for rule in BPTT(), OTTT(), DSR(batch_norm="joint"):
        loss = OnRate(CE) if rule.traits.loss == "rate" else PerStep(CE)
        with pytest.raises(IncompatibleRule, match=r"'1' is a BatchNorm1d that .* padding counts as data"):
            rule.updates(net, data(), Y, loss, lengths=LENGTHS)
    gradients(net, DSR(batch_norm="rate"), data(), Y, OnRate(CE), lengths=LENGTHS)
    net.eval()
    agree(net, BPTT, data(), Y, PerStep(CE))


class Own(Loss):
    """A loss that knows nothing of lengths."""

    per_step = True

    def __call__(self, output: Tensor, y: Tensor, steps: int, start: int = 0) -> Tensor:
        return output.square().mean()


def test_losses_that_do_not_say() -> None:
    with pytest.raises(IncompatibleRule, match=r"Own does not say what steps after the end.*over\(lengths\)"):
        BPTT().updates(chain(), data(), Y, Own(CE), lengths=LENGTHS)
    with pytest.raises(IncompatibleRule, match="neither the mean nor the sum"):
        list(BPTT().updates(chain(), data(), Y, PerStep(lambda o, y: (o - o.mean(0)).norm()), lengths=LENGTHS))
