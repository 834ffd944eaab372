"""BPTT: what is its own beside being the measure of the others."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spikewright.losses import Loss, OnRate, PerStep
from spikewright.network import Network
from spikewright.rules import BPTT
from tests.nets import NETS, sample
from tests.oracles import bptt
from tests.oracles.compare import assert_agree, case, relative
from tests.rules.support import CE, NOISY, collected, gradients, learn

RATE = OnRate(F.cross_entropy)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_the_loss_of_the_mean_output(name: str, chunk: int | None) -> None:
    expected = bptt.gradients_of_mean(*case(name))
    assert_agree(gradients(BPTT(chunk), NETS[name](0), *sample(name, 0), RATE), expected)


@pytest.mark.parametrize("loss", [CE, RATE])
def test_is_what_autograd_says_of_a_plain_run(loss: Loss) -> None:
    module, (x, y) = NETS["conv"](0), sample("conv", 0)
    output, _ = Network(module).run(x)
    loss(output, y, len(x)).backward()
    assert_agree(collected(module), gradients(BPTT(), NETS["conv"](0), x, y, loss))


def test_credit_reaches_the_first_step() -> None:
    x, y = sample("deep", 0)
    net, x = Network(NETS["deep"](0)), x.requires_grad_()
    output, _ = net.run(x)
    F.cross_entropy(output[-1], y).backward()
    assert x.grad is not None and all(step.any() for step in x.grad)


def test_a_piece_is_where_credit_ends() -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    piece = PerStep(F.cross_entropy, steps=6)
    state = learn(BPTT(), module, x[:3], y, piece)[-1].state
    learn(BPTT(), module, x[3:], y, piece, state)
    distances = relative(collected(module), gradients(BPTT(), NETS["mlp"](0), x, y))
    assert all((distance < 1e-12) == name.startswith("4") for name, distance in distances.items()), distances


def test_the_loss_is_the_one_that_is_reported() -> None:
    module, (x, y) = NOISY["mlp"]().eval(), sample("mlp", 0)
    (update,) = learn(BPTT(chunk=4), module, x, y)
    steps = torch.stack([F.cross_entropy(output, y) for output in update.output])
    torch.testing.assert_close(update.loss, steps.mean())
    (update,) = learn(BPTT(chunk=4), module, x, y, OnRate(nn.CrossEntropyLoss()))
    torch.testing.assert_close(update.loss, F.cross_entropy(update.output.mean(0), y))
