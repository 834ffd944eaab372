"""OTTT-O: weights that move during the sequence."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn, optim

from spikewright.network import Network
from spikewright.rules import OTTT
from tests.nets import NETS, sample
from tests.oracles.machine import Params
from tests.rules.support import CE, assert_identical, gradients

Optimizer = Callable[[list[nn.Parameter]], optim.Optimizer]


def train(rule: OTTT, optimizer: Optimizer, x: Tensor, y: Tensor) -> Params:
    """The weights after one sequence with a step of the optimizer at every update."""
    module = NETS["mlp"](0)
    steps = optimizer(list(module.parameters()))
    for _ in rule.updates(Network(module), x, y, CE):
        steps.step()
        steps.zero_grad()
    return {name: p.detach() for name, p in module.named_parameters()}


def flat(params: Params) -> Tensor:
    return torch.cat([p.flatten() for p in params.values()])


def test_small_steps_add_up_to_one_with_an_error_of_first_order() -> None:
    x, y = sample("mlp", 0)
    start = flat({name: p.detach() for name, p in NETS["mlp"](0).named_parameters()})
    expected = flat(gradients(OTTT(), NETS["mlp"](0), x, y))
    rates, errors = (1e-4, 1e-5, 1e-6), []
    for rate in rates:
        end = flat(train(OTTT(online=True), lambda params, rate=rate: optim.SGD(params, lr=rate), x, y))
        errors.append(float(((start - end) / rate - expected).norm() / expected.norm()))
    orders = [math.log(a / b) / math.log(p / q) for a, b, p, q in zip(errors, errors[1:], rates, rates[1:])]
    assert errors[0] < 1e-3 and orders == pytest.approx([1, 1], abs=0.1), (errors, orders)


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.RMSprop])
def test_one_step_leaves_nothing_between_the_two_forms(optimizer: type[optim.Optimizer]) -> None:
    x, y = sample("mlp", 0, steps=1)
    build: Optimizer = lambda params: optimizer(params, lr=0.1)  # type: ignore[call-arg]  # noqa: E731
    assert_identical(train(OTTT(online=True), build, x, y), train(OTTT(), build, x, y))


def test_a_step_learns_at_the_weights_the_step_before_left() -> None:
    x, y = sample("mlp", 0)
    moved = train(OTTT(online=True), lambda params: optim.SGD(params, lr=0.5), x, y)
    at_once = train(OTTT(), lambda params: optim.SGD(params, lr=0.5), x, y)
    assert (flat(moved) - flat(at_once)).norm() > 1e-2 * flat(at_once).norm()


def test_there_is_an_update_at_every_step() -> None:
    x, y = sample("mlp", 0)
    updates = list(OTTT(online=True).updates(Network(NETS["mlp"](0)), x, y, CE))
    assert [update.output.shape[0] for update in updates] == [1] * 6
    (whole,) = OTTT(chunk=4).updates(Network(NETS["mlp"](0)), x, y, CE)
    torch.testing.assert_close(torch.cat([update.output for update in updates]), whole.output)
    torch.testing.assert_close(torch.stack([update.loss for update in updates]).sum(), whole.loss)
    assert OTTT(online=True, chunk=4).chunk == 1
