"""Targets that a criterion refuses, criteria that are none, and things that are no tensors: one clear error each."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.losses import CrossEntropyMSE, Loss, OnRate, PerStep
from spikewright.rules import BPTT, DSR, OTTT, Rule
from tests.rules.support import loss_for

STEPS, BATCH, CLASSES = 5, 2, 3
X = torch.rand(STEPS, BATCH, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 2])
RULES: dict[str, Callable[[], Rule]] = {"BPTT": BPTT, "OTTT": OTTT, "DSR": DSR}


def network() -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 8), sw.LIF(), nn.Linear(8, CLASSES)).float())


def learned(rule: Rule, criterion: Any, y: Any, timed: bool = False) -> Tensor:
    loss = OnRate(criterion) if rule.traits.loss == "rate" else PerStep(criterion, timed=timed)
    return list(rule.updates(network(), X, y, loss))[-1].loss


def under_every_rule(cases: Iterable[str], *chosen: str) -> list[tuple[str, str]]:
    """Every case under one rule, and some under all."""
    return [(name, rule) for name in cases for rule in RULES if rule == "BPTT" or name in chosen]


REFUSED = {
    "float": (nn.CrossEntropyLoss(), Y.float(), r"targets \[2\] \(float32\).* It takes y.long\(\)\."),
    "int32": (nn.CrossEntropyLoss(), Y.int(), r"targets \[2\] \(int32\).* It takes y.long\(\)\."),
    "bool": (nn.CrossEntropyLoss(), Y.bool(), r"targets \[2\] \(bool\).* It takes y.long\(\)\."),
    "complex": (nn.CrossEntropyLoss(), Y.to(torch.complex64), r"targets \[2\] \(complex64\)"),
    "a column": (nn.CrossEntropyLoss(), Y[:, None], r"targets \[2, 1\] \(int64\).* It takes y.squeeze\(-1\)\."),
    "one-hot": (
        nn.CrossEntropyLoss(),
        F.one_hot(Y, CLASSES),
        r"\[2, 3\] \(int64\).* It takes y.to\(torch.float32\) or y.argmax\(-1\)\.",
    ),
    "soft, of NLL": (nn.NLLLoss(), F.one_hot(Y, CLASSES).float(), r"PerStep\(NLLLoss\)|OnRate\(NLLLoss\).*y.argmax"),
    "soft, of the mix": (CrossEntropyMSE(), F.one_hot(Y, CLASSES).float(), r"It takes y.argmax\(-1\)"),
    "indices, of MSE": (nn.MSELoss(), Y, r"It takes F.one_hot\(y, 3\).to\(torch.float32\)\."),
    "indices, of BCE": (nn.BCEWithLogitsLoss(), Y, r"It takes F.one_hot\(y, 3\).to\(torch.float32\)\."),
    "of a function": (F.cross_entropy, Y.float(), r"(PerStep|OnRate)\(cross_entropy\).* It takes y.long\(\)\."),
}


@pytest.mark.filterwarnings("ignore:Using a target size")  # torch's, before its error
@pytest.mark.parametrize("name, rule", under_every_rule(REFUSED, "one-hot", "indices, of MSE"))
def test_targets_that_a_criterion_refuses(name: str, rule: str) -> None:
    criterion, y, message = REFUSED[name]
    with pytest.raises(ShapeError, match=message) as caught:
        learned(RULES[rule](), criterion, y)
    assert "outputs [2, 3] (float32)" in str(caught.value)
    assert type(caught.value.__cause__) in (RuntimeError, ValueError, NotImplementedError)
    assert str(caught.value.__cause__).partition("\n")[0] in str(caught.value)


ACCEPTED = {
    "soft": (nn.CrossEntropyLoss(), F.one_hot(Y, CLASSES).float()),
    "bytes": (nn.CrossEntropyLoss(), Y.to(torch.uint8)),
    "values": (nn.MSELoss(), torch.rand(BATCH, CLASSES)),
    "shares": (nn.BCEWithLogitsLoss(), torch.rand(BATCH, CLASSES)),
    "int32, which it takes": (lambda o, y: o[torch.arange(2), y.long()].mean(), Y.int()),
    "one entry": (lambda o, y: F.cross_entropy(o, y, reduction="none").mean(0, keepdim=True), Y),
}


@pytest.mark.parametrize("name, rule", under_every_rule(ACCEPTED, "soft", "one entry"))
def test_what_a_criterion_takes_goes_on_working(name: str, rule: str) -> None:
    criterion, y = ACCEPTED[name]
    value = learned(RULES[rule](), criterion, y)
    assert value.shape == () and value.isfinite()


def test_values_that_a_function_refuses() -> None:
    with pytest.raises(InputError, match=r"calls its criterion with.*Target 7 is out of bounds"):
        learned(BPTT(), F.cross_entropy, torch.tensor([0, 7]))


class Stop(RuntimeError):
    """An error of the user's, to be caught by the user."""


@pytest.mark.parametrize("kind", [Stop, KeyError, torch.OutOfMemoryError])
def test_other_errors_of_a_criterion_pass_unchanged(kind: type[Exception]) -> None:
    def criterion(output: Tensor, y: Tensor) -> Tensor:
        raise kind("mine")

    with pytest.raises(kind, match="mine") as caught:
        learned(BPTT(), criterion, Y)
    assert type(caught.value) is kind


@pytest.mark.parametrize("kind", [PerStep, OnRate])
@pytest.mark.parametrize(
    "y, hint",
    [
        (
            Y.expand(STEPS, BATCH),
            r"given 5 targets .*\(for a target at every step, use PerStep\(criterion, timed=True\)",
        ),
        (Y.expand(4, BATCH), r"given 4 targets for x of \[time=5, batch=2, ...\]\. "),
        (torch.zeros(1, dtype=torch.int64), r"given 1 target for x of \[time=5, batch=2, ...\]\. "),
        (torch.zeros(STEPS, dtype=torch.int64), r"given 5 targets .*batch-first: use x.transpose\(0, 1\)"),
        (torch.tensor(1), r"given one number for x of .* shape \[\]"),
    ],
    ids=["timed", "timed, too short", "one", "batch first", "a number"],
)
def test_a_number_of_targets_that_does_not_fit(kind: type[Loss], y: Tensor, hint: str) -> None:
    with pytest.raises(ShapeError, match=hint):
        kind(nn.CrossEntropyLoss()).check(y, STEPS, BATCH, CLASSES)


def test_timed_targets_of_as_many_steps_as_samples() -> None:
    x, y = X[:BATCH], Y.expand(BATCH, BATCH)
    with pytest.raises(
        ShapeError, match=r"the targets of one step, for which there is PerStep\(criterion, timed=True\)"
    ):
        list(BPTT().updates(network(), x, y, PerStep(nn.CrossEntropyLoss())))
    list(BPTT().updates(network(), x, y, PerStep(nn.CrossEntropyLoss(), timed=True)))


@pytest.mark.parametrize("kind", [PerStep, OnRate])
def test_criteria_that_are_none(kind: type[Loss]) -> None:
    name = kind.__name__
    with pytest.raises(ConfigError, match=rf"{name} was given the class MSELoss.*{name}\(MSELoss\(\)\)"):
        kind(nn.MSELoss)  # type: ignore[arg-type]
    for criterion in ("ce", None, 3):
        with pytest.raises(ConfigError, match=rf"{name}\({criterion!r}\) was given .* called with outputs"):
            kind(criterion)  # type: ignore[arg-type]


NO_NUMBER = {
    "one for each sample": (
        nn.CrossEntropyLoss(reduction="none"),
        r"a tensor \[2\].*Give the criterion reduction='mean'",
    ),
    "one for each output": (nn.MSELoss(reduction="none"), r"a tensor \[2, 3\].*reduction='mean'"),
    "of a function": (lambda o, y: (o - y).abs().mean(1), r"PerStep|OnRate.*<lambda>.*a tensor \[2\].*Return the mean"),
    "a number of Python": (lambda o, y: 1.0, r"returned a float, "),
    "a pair": (lambda o, y: (o.mean(), y), r"returned \(a tensor \[\] of float32, a tensor \[2, 3\] of float32\), "),
    "nothing": (lambda o, y: None, r"returned None, "),
}


@pytest.mark.parametrize("name, rule", under_every_rule(NO_NUMBER, "one for each output", "a number of Python"))
def test_criteria_that_return_no_number(name: str, rule: str) -> None:
    criterion, message = NO_NUMBER[name]
    with pytest.raises(ConfigError, match=message):
        learned(RULES[rule](), criterion, F.one_hot(Y, CLASSES).float())


def call(net: sw.Network, x: Any) -> object:
    return net(x)


TAKE_X: dict[str, Callable[[sw.Network, Any], object]] = {
    "updates": lambda net, x: list(BPTT().updates(net, x, Y, loss_for(BPTT()))),
    "run": lambda net, x: net.run(x),
    "call": call,
    "start": lambda net, x: net.start(x),
    "wiring": lambda net, x: net.wiring(x),
    "prepare": lambda net, x: sw.rules.OPZO().prepare(net, x),
    "certify": lambda net, x: sw.certify(net, OTTT(), x, Y, loss_for(OTTT())),
    "energy": lambda net, x: sw.energy(net, OTTT(), x, Y, loss_for(OTTT())),
    "next task": lambda net, x: sw.rules.Replay(OTTT()).next_task(net, x, Y, loss_for(OTTT())),
}
TAKE_Y: dict[str, Callable[[sw.Network, Any], object]] = {
    "updates": lambda net, y: list(OTTT().updates(net, X, y, loss_for(OTTT()))),
    "certify": lambda net, y: sw.certify(net, OTTT(), X, y, loss_for(OTTT())),
    "next task": lambda net, y: sw.rules.Replay(OTTT()).next_task(net, X, y, loss_for(OTTT())),
}
NO_TENSORS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "numpy": (lambda t: t.numpy(), r"but it is a numpy.ndarray\. Give torch.as_tensor\({}\)\."),
    "list": (lambda t: t.tolist(), r"but it is a list\. Give torch.as_tensor\({}\)\."),
    "None": (lambda t: None, r"but it is None\. Give one tensor\."),
    "scalar": (lambda t: np.float64(1.0), r"but it is a numpy.float64\. Give torch.as_tensor\({}\)\."),
}


@pytest.mark.parametrize("where, kind", [*((w, "numpy") for w in TAKE_X), *(("run", kind) for kind in NO_TENSORS)])
def test_an_input_that_is_no_tensor(where: str, kind: str) -> None:
    convert, message = NO_TENSORS[kind]
    with pytest.raises(ShapeError, match=r"x has to be a tensor, \[time, batch, \*feature\], " + message.format("x")):
        TAKE_X[where](network(), convert(X))


@pytest.mark.parametrize("where, kind", [*((w, "list") for w in TAKE_Y), *(("updates", k) for k in NO_TENSORS)])
def test_targets_that_are_no_tensor(where: str, kind: str) -> None:
    convert, message = NO_TENSORS[kind]
    with pytest.raises(ShapeError, match=r"y has to be a tensor, \[batch, ...\].*" + message.format("y")):
        TAKE_Y[where](network(), convert(Y))


def test_a_tuple_of_samples_is_taken_for_several_tensors() -> None:
    with pytest.raises(ShapeError, match=r"was given the tuple\. If they are the steps of one input, give torch.stack"):
        network().run(tuple(X))
    with pytest.raises(ShapeError, match=r"y\[0\] has the shape \[\].*All have the axes \[batch\] in front"):
        BPTT().updates(network(), X, tuple(Y), loss_for(BPTT()))
