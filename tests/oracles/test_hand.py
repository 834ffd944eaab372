"""The interpreters against the explicit sums, without the package."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.oracles import bptt, hand, ottt, sltt
from tests.oracles.compare import assert_agree, case
from tests.oracles.draw import draw, sample, weights
from tests.oracles.machine import Machine, forward
from tests.oracles.programs import PROGRAMS

CE = F.cross_entropy
ONE_CONV = {"0": (5, 2, 3, 3), "2": (4, 320)}


def one_linear(x: Tensor, net: Machine) -> Tensor:
    return net.syn("2", net.lif("1", net.syn("0", x, post="1"), tau=1.6), pre="1")


def one_conv(x: Tensor, net: Machine) -> Tensor:
    return net.syn("2", net.lif("1", net.syn("0", x, post="1", padding=1), tau=1.6).flatten(1), pre="1")


def test_one_linear_layer_is_the_hand_formula() -> None:
    params, (x, y) = draw({"0": (12, 8), "2": (4, 12)}, 3), sample("mlp", 3)
    leak = 1 - 1 / 1.6
    by_hand = partial(hand.chain, ("0", "2"), params, x, y, (leak,))
    run = (one_linear, params, x, y, CE)
    assert_agree(bptt.gradients(*run), by_hand((leak, 0), (leak, 0)))
    assert_agree(ottt.gradients(*run), by_hand((leak, 0), (leak, 0)))
    assert_agree(sltt.gradients(*run), by_hand((0, 0), (0, 0)))
    assert_agree(ottt.gradients(*run, trace_bias=False), by_hand((leak, 0), (0, 0)))
    assert_agree(ottt.gradients(*run, trace_input=False), by_hand((0, 0), (0, 0)))
    assert_agree(ottt.gradients(*run, trace_readout=True), by_hand((leak, leak), (leak, 0)))
    assert_agree(ottt.gradients(*run, leak=0.9), by_hand((0.9, 0), (0.9, 0)))
    assert_agree(ottt.gradients(*run, reference=True), by_hand((0, leak), (0, 0)))


def test_one_convolution_is_the_hand_formula() -> None:
    params, (x, y) = draw(ONE_CONV, 2), sample("conv", 2)
    leak, run = 1 - 1 / 1.6, (one_conv, params, x, y, CE)
    assert_agree(bptt.gradients(*run), hand.convolution(params, x, y, leak, leak))
    assert_agree(ottt.gradients(*run), hand.convolution(params, x, y, leak, leak))
    assert_agree(sltt.gradients(*run), hand.convolution(params, x, y, leak, 0.0))


@pytest.mark.parametrize("name, leaks", [("two_leaks", (1 / 3, 0.8)), ("if_net", (1, 1)), ("deep", (0.5, 0.5, 0.5))])
def test_chains_are_the_hand_formula(name: str, leaks: tuple[float, ...]) -> None:
    run = case(name)
    layers = [key.removesuffix(".weight") for key in run[1] if key.endswith(".weight")]
    by_hand = partial(hand.chain, layers, *run[1:4], leaks)
    assert_agree(ottt.gradients(*run), by_hand((*leaks, 0), (*leaks, 0)))
    assert_agree(sltt.gradients(*run), by_hand([0] * len(layers), [0] * len(layers)))
    assert_agree(ottt.gradients(*run, reference=True), by_hand((0, *leaks), [0] * len(layers)))


SINGLE = [
    ("feedback", "1.transform", "4", 1 / 3, 1),
    ("feedback", "3", "2", 2 / 3, 0),
    ("branching", "left", "root", 1 / 2, 0),
    ("branching", "right", "root", 4 / 5, 0),
]


@pytest.mark.parametrize("name, synapse, source, leak, delay", SINGLE)
def test_one_sample_gives_the_three_factors_apart(
    name: str, synapse: str, source: str, leak: float, delay: int
) -> None:
    """With a batch of one, the same-step gradient of a bias is the error `g[t]` itself."""
    params, (x, y) = weights(name, 0), sample(name, 0, batch=1)
    run = (PROGRAMS[name], params, x, y, CE)
    errors = [sltt.gradients_of_steps(*run, [step])[f"{synapse}.bias"] for step in range(delay, len(x))]
    g, spikes = torch.stack(errors)[:, None], forward(PROGRAMS[name], params, x)[1][source]
    expected = {"weight": hand.weight_sum(g, spikes[: len(g)], leak), "bias": hand.bias_sum(g, leak)}
    found = ottt.gradients(*run)
    assert_agree({kind: found[f"{synapse}.{kind}"] for kind in expected}, expected)
