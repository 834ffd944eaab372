"""Networks that take and return several tensors, under every rule; and inputs with the batch in front."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import ConfigError, IncompatibleRule, NetworkError, ShapeError
from spikewright.losses import OnRate, PerStep
from spikewright.rules import BPTT, DSR, EWC, HLOP, IDE, OPZO, OTTT, SLTT, SPIDE, LwF, Replay, Rule
from spikewright.spatial import DFA, FA, ZO, Local

STEPS, BATCH = 5, 3


class Parts(nn.Module):
    """Two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.neurons = nn.Linear(4, 7), nn.Conv1d(2, 1, 3, padding=1), sw.IF(rest=-0.5)
        self.labels, self.values = nn.Linear(7, 3), nn.Linear(7, 2)

    def body(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        h = self.neurons(self.left(a) + self.right(b).flatten(1))
        return self.labels(h), self.values(h)


class ByName(Parts):
    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        labels, values = self.body(a, b)
        return {"labels": labels, "values": values}


class AsDict(Parts):
    def forward(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.body(**x)


class AsTuple(Parts):
    def forward(self, x: tuple[Tensor, Tensor], scale: float = 1.0) -> list[Tensor]:
        return list(self.body(*x))


class Anything(Parts):
    def forward(self, *x: Tensor, **named: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(*x, **named)


class AsOne(Parts):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.split([4, 14], -1)
        return torch.cat(self.body(a, b.unflatten(-1, (2, 7))), -1)


@cache
def made(kind: type[Parts]) -> sw.Network:
    torch.manual_seed(0)
    return sw.Network(kind().double())


SOURCE = torch.Generator().manual_seed(1)
A = 3 * torch.rand(STEPS, BATCH, 4, generator=SOURCE).double()
B = 3 * torch.rand(STEPS, BATCH, 2, 7, generator=SOURCE).double()
ONE = torch.cat([A, B.flatten(2)], -1)
Y, VALUES = torch.tensor([0, 2, 1]), torch.full((BATCH, 2), 0.5).double()
NAMED, PAIR = {"a": A, "b": B}, (A, B)
FORMS: dict[str, tuple[type[Parts], Any]] = {
    "by name": (ByName, NAMED),
    "by place": (ByName, PAIR),
    "in a list": (ByName, [A, B]),
    "as a dictionary": (AsDict, NAMED),
    "as a tuple": (AsTuple, PAIR),
    "anything by name": (Anything, NAMED),
    "anything by place": (Anything, PAIR),
}


def apart(output: Any) -> tuple[Tensor, Tensor]:
    return tuple(output.values() if isinstance(output, dict) else output)  # type: ignore[return-value]


def both(output: Any, y: Any) -> Tensor:
    """A criterion of outputs and targets in any form, also of outputs side by side."""
    labels, values = output.split([3, 2], -1) if isinstance(output, Tensor) else apart(output)
    y, target = (y, torch.full_like(values, 0.5)) if isinstance(y, Tensor) else apart(y)
    return F.cross_entropy(labels, y) + F.mse_loss(values, target)


@pytest.mark.parametrize("name", FORMS)
def test_runs(name: str) -> None:
    kind, x = FORMS[name]
    expected, state = made(AsOne).run(ONE)
    output, own = made(kind).run(x)
    assert type(output) is {ByName: dict, AsTuple: list}.get(kind, tuple)
    assert torch.equal(torch.cat(apart(output), -1), expected) and torch.equal(
        torch.cat(apart(made(kind)(x)), -1), expected
    )
    assert all(torch.equal(own["neurons"][key], state["neurons"][key]) for key in state["neurons"])
    wiring = made(kind).wiring(x)
    assert wiring.output == (5,) and wiring.receivers == made(AsOne).wiring(ONE).receivers
    assert wiring.curves == made(AsOne).wiring(ONE).curves == ()


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


def test_named_tuples_and_parts_of_a_sequence() -> None:
    net = made(ByName)
    whole = net.run(Pair(A, B))[0]["labels"]  # type: ignore[call-overload, index]
    first, state = net.run(Pair(A[:2], B[:2]))
    assert torch.equal(torch.cat([first["labels"], net.run(Pair(A[2:], B[2:]), state)[0]["labels"]]), whole)  # type: ignore[call-overload, index]


Make = Callable[[], Rule]
RULES: dict[str, Make] = {
    "BPTT": BPTT,
    "BPTT, again": lambda: BPTT(chunk=2, checkpoint=True),
    "SLTT": lambda: SLTT(chunk=2),
    "SLTT, drawn": lambda: SLTT(k=2),
    "OTTT": OTTT,
    "OTTT, online": lambda: OTTT(online=True),
    "FA": lambda: OTTT(spatial=FA()),
    "DFA": lambda: OTTT(spatial=DFA()),
    "ZO": lambda: OTTT(spatial=ZO()),
    "OPZO": OPZO,
    "DSR": DSR,
    "IDE": IDE,
    "SPIDE": lambda: SPIDE(steps=50),
    "HLOP": lambda: HLOP(OTTT(), rows=2),
    "EWC": lambda: EWC(BPTT()),
    "Replay": lambda: Replay(BPTT()),
}


def learned(net: sw.Network, rule: Rule, x: Any, y: Any) -> tuple[dict[str, Tensor], list[Any]]:
    loss = OnRate(both) if rule.traits.loss == "rate" else PerStep(both)
    rule.prepare(net, x)
    net.zero_grad()
    updates = list(rule.updates(net, x, y, loss))
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}, updates


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_what_it_learns_of_one_tensor(name: str) -> None:
    expected, plain = learned(made(AsOne), RULES[name](), ONE, Y)
    assert len(expected) == 8 and all(grad.any() for grad in expected.values())
    for x, y in (NAMED, {"y": Y, "values": VALUES}), (PAIR, Y):
        found, updates = learned(made(ByName), RULES[name](), x, y)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)
        for update, other in zip(updates, plain, strict=True):
            assert update.output.keys() == {"labels", "values"}
            torch.testing.assert_close(torch.cat(apart(update.output), -1), other.output, rtol=1e-12, atol=0)


def test_local_readouts_have_all_outputs() -> None:
    rule = SLTT(local=Local())
    rule.prepare(made(ByName), NAMED)
    rule.double()
    found = learned(made(ByName), rule, NAMED, Y)[0]
    torch.testing.assert_close(found, learned(made(AsOne), rule, ONE, Y)[0], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("rule", [OTTT(), DSR(), OPZO()], ids=lambda rule: type(rule).__name__)
def test_reports(rule: Rule) -> None:
    loss = OnRate(both) if rule.traits.loss == "rate" else PerStep(both)
    found, plain = (sw.certify(made(k), rule, x, Y, loss) for k, x in ((ByName, NAMED), (AsOne, ONE)))
    for a, b in zip(found.rows, plain.rows, strict=True):
        assert (a.site, a.exact, a.match) == (b.site, b.exact, b.match)
        assert a.relative_error == pytest.approx(b.relative_error, rel=1e-6, abs=1e-10)
    assert sw.energy(made(ByName), rule, PAIR, Y, loss).ratio == sw.energy(made(AsOne), rule, ONE, Y, loss).ratio
    rows = sw.plan(made(ByName), rule, NAMED, measure=(2, 3)).rows
    assert [row.steps for row in rows] == [row.steps for row in sw.plan(made(AsOne), rule, ONE, measure=(2, 3)).rows]


@pytest.mark.parametrize("rule", [HLOP(OTTT(), rows=2), EWC(BPTT()), Replay(BPTT())], ids=lambda r: type(r).__name__)
def test_a_second_task(rule: Any) -> None:
    net = sw.Network(ByName().double())
    rule.next_task(net, NAMED, {"y": Y, "values": VALUES}, PerStep(both))
    rule.freeze(net)
    found = learned(net, rule, NAMED, {"y": Y, "values": VALUES})[0]
    assert all(grad.isfinite().all() for grad in found.values())


def test_gradients_reach_the_inputs() -> None:
    parts, one = {key: x.clone().requires_grad_() for key, x in NAMED.items()}, ONE.clone().requires_grad_()
    for net, x in (made(ByName), parts), (made(AsOne), one):
        list(OTTT().updates(net, x, Y, PerStep(both)))
    assert one.grad is not None and parts["a"].grad is not None and parts["b"].grad is not None
    torch.testing.assert_close(parts["a"].grad, one.grad[..., :4], rtol=1e-12, atol=0)
    torch.testing.assert_close(parts["b"].grad.flatten(2), one.grad[..., 4:], rtol=1e-12, atol=0)


class Words(nn.Module):
    """A word, a flag and real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.neurons, self.readout = (
            nn.Embedding(50, 6),
            nn.Linear(4, 6),
            sw.LIF(),
            nn.Linear(6, 2),
        )

    def forward(self, word: Tensor, flag: Tensor, x: Tensor) -> Tensor:
        assert (word.dtype, flag.dtype, x.dtype) == (torch.int64, torch.bool, torch.float64)
        return self.readout(self.neurons(torch.where(flag[:, None], self.layer(x), 0) + self.table(word)))


def test_numbers_of_several_types() -> None:
    net = sw.Network(Words().double())
    x = {"word": torch.randint(50, (STEPS, BATCH)), "flag": torch.rand(STEPS, BATCH) > 0.5, "x": A}
    output = net(x)
    steps = [net.run({k: v[:1] for k, v in x.items()})[0] for _ in (0,)]
    assert torch.equal(output[:1], steps[0])
    (update,) = OTTT().updates(net, x, torch.tensor([0, 1, 1]), PerStep(nn.CrossEntropyLoss()))
    assert torch.allclose(update.output, output)
    with pytest.raises(IncompatibleRule, match="embedding"):
        DSR().updates(net, x, torch.tensor([0, 1, 1]), OnRate(nn.CrossEntropyLoss()))
    with pytest.raises(ShapeError, match=r"integers of up to 9007199254740993 .* up to 2\*\*53"):
        net({**x, "word": torch.full((STEPS, BATCH), 2**53 + 1)})


def test_static_inputs_stay_static() -> None:
    """One step of each is packed, and repeated without a copy."""
    _, one = made(ByName).given({key: x[:1].expand(100, *x.shape[1:]) for key, x in NAMED.items()})
    assert one.stride(0) == 0 and one.shape == (100, BATCH, 18)


REFUSED: dict[str, tuple[type[Parts], Any, type[Exception], str]] = {
    "other steps": (
        ByName,
        (A, B[:2]),
        ShapeError,
        r"x\[1\] has the shape \[2, 3, 2, 7\].*\[5, 3, 4\].*\[time, batch\]",
    ),
    "no batch": (ByName, {"a": A, "b": B[:, 0, 0, 0]}, ShapeError, r"x\['b'\] has the shape \[5\]"),
    "nested": (ByName, (A, (A, B)), ShapeError, "x has to be a tensor.*it is a tuple"),
    "numbers": (ByName, {"a": A, "b": 1.0}, ShapeError, "x has to be a tensor"),
    "nothing": (ByName, {}, ShapeError, "x has to be a tensor"),
    "another device": (ByName, (A, B.to("meta")), ShapeError, r"a tensor that is without values \(meta\)"),
    "too many": (ByName, (A, B, A), ShapeError, r"a tuple of 3 tensors, but ByName.forward\(a: .*too many positional"),
    "steps in a list": (AsOne, list(ONE), ShapeError, r"was given the list. If they are the steps .*torch.stack\(x\)"),
    "an unknown name": (
        ByName,
        {"a": A, "c": B},
        ShapeError,
        "keys 'a', 'c', but .*missing a required arg",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_do_not_fit(name: str) -> None:
    kind, x, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        made(kind).run(x)


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda h: (h, h.mean(0)), r"returned several tensors, but the output\[1\] has the shape \[2\]"),
        (lambda h: (h, [h]), r"returned \(a tensor .*, a list\) for \d+ rows"),
        (lambda h: {"h": h, "n": 1}, r"returned \{'h': a tensor .*'n': an int\} for \d+ rows"),
        (lambda h: (h[:1], h[:1]), r"returned \[1, 4\] for \d+ rows"),
    ],
)
def test_outputs_that_do_not_fit(answer: Callable[[Tensor], Any], message: str) -> None:
    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neurons = nn.Linear(4, 2), sw.LIF()

        def forward(self, x: Tensor) -> Any:
            return answer(self.neurons(self.layer(x)))

    with pytest.raises(NetworkError, match=message):
        sw.Network(Answers().double()).run(A)


def test_a_softmax_of_several_outputs_is_refused() -> None:
    with pytest.raises(IncompatibleRule, match="returns 2 tensors, of which it does not know"):
        LwF(BPTT()).updates(made(ByName), NAMED, Y, PerStep(both))


def swapped(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.transpose(0, 1).contiguous()
    return {key: swapped(part) for key, part in x.items()}


@pytest.mark.parametrize("kind, x", [(AsOne, ONE), (ByName, NAMED)])
def test_a_batch_in_front(kind: type[Parts], x: Any) -> None:
    net, early = made(kind), swapped(x)
    output, expected = net.run(early, batch_first=True)[0], net.run(x)[0]
    for a, b in zip(apart(output) if kind is ByName else [output], apart(expected) if kind is ByName else [expected]):
        assert torch.equal(a, b.transpose(0, 1))
    for rule in BPTT(), OTTT(online=True), OTTT(spatial=DFA()):
        found, other = (
            list(rule.updates(net, given, Y, PerStep(both), batch_first=first))[-1]
            for given, first in ((early, True), (x, False))
        )
        assert torch.equal(found.loss, other.loss)
    timed = torch.randint(3, (STEPS, BATCH))
    loss = PerStep(lambda o, y: F.cross_entropy(o["labels"] if isinstance(o, dict) else o[:, :3], y), timed=True)
    a, b = (
        next(iter(BPTT().updates(net, given, y, loss, batch_first=first))).loss
        for given, y, first in ((early, timed.T, True), (x, timed, False))
    )
    assert torch.equal(a, b)
    first, last = (
        sw.certify(net, OTTT(), given, Y, PerStep(both), batch_first=f) for given, f in ((early, True), (x, False))
    )
    assert first.steps == last.steps == STEPS
    assert sw.energy(net, OTTT(), early, Y, PerStep(both), batch_first=True).steps == STEPS
    example = early if kind is ByName else early.shape
    assert sw.plan(net, OTTT(), example, measure=(2, 3), batch_first=True).shape == (STEPS, BATCH, 18)


@pytest.mark.parametrize("wrong", ["false", 1, None])
def test_batch_first_is_a_flag(wrong: Any) -> None:
    net = made(AsOne)
    uses: list[Callable[[], object]] = [
        lambda: net.run(ONE, batch_first=wrong),
        lambda: BPTT().updates(net, ONE, Y, PerStep(both), batch_first=wrong),
        lambda: sw.certify(net, BPTT(), ONE, Y, PerStep(both), batch_first=wrong),
        lambda: sw.energy(net, BPTT(), ONE, Y, PerStep(both), batch_first=wrong),
        lambda: sw.plan(net, BPTT(), ONE, batch_first=wrong),
        lambda: sw.plan(net, BPTT(), ONE.shape, batch_first=wrong),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match="batch_first is either on or off"):
            use()


def test_messages_name_the_batch_in_front() -> None:
    net = sw.Network(nn.Sequential(nn.Conv2d(2, 3, 3), sw.LIF()).double())
    with pytest.raises(ShapeError, match="batch_first=True"):
        net.run(torch.rand(3, 5, 8, 8).double())
    with pytest.raises(ShapeError, match=r"say batch_first=True"):
        BPTT().updates(made(AsOne), ONE, torch.zeros(STEPS, dtype=torch.int64), PerStep(both))
    with pytest.raises(ShapeError, match=r"timed=True"):
        BPTT().updates(made(AsOne), ONE, torch.zeros(STEPS, BATCH, dtype=torch.int64), PerStep(nn.CrossEntropyLoss()))
