"""Layers that are cut from each other: what lies behind a layer says nothing to it but the error of the output."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.rules import OTTT, SLTT, OnlineRule
from spikewright.spatial import BP, DFA, DKP, FA, OPZO, ZO, SignSymmetric, Spatial
from tests.nets import NETS, sample
from tests.oracles.draw import WEIGHTS
from tests.oracles.machine import Params
from tests.rules.support import CE, gradients

CHAINS = ("deep", "conv", "residual")
"""Networks whose layers can be put in a line."""


def constant(output: Tensor, y: Tensor) -> Tensor:
    """A criterion whose value and error are the same whatever the output is."""
    slope = torch.linspace(-1.0, 2.0, output.shape[1])
    return (slope * (output - output.detach()) + 1).mean()


def changed(name: str, layer: str) -> nn.Module:
    """A network with other weights at one layer."""
    module = NETS[name](0)
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        parameters[f"{layer}.weight"].mul_(-1.5).add_(0.2)
    return module


def learned(rule: OnlineRule, name: str, module: nn.Module) -> Params:
    return gradients(rule, module, *sample(name, 0), PerStep(constant))


def unmoved(rule: Callable[[], OnlineRule], name: str, layer: str) -> set[str]:
    """The layers whose gradients stay what they were, to the last bit, when the weights of another one change."""
    before, after = (learned(rule(), name, module) for module in (NETS[name](0), changed(name, layer)))
    assert all(grad.any() for grad in before.values())
    moved = {key.rpartition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    return set(WEIGHTS[name]) - moved


def in_front(name: str, layer: str) -> set[str]:
    layers = list(WEIGHTS[name])
    return set(layers[: layers.index(layer)])


# OPZO learns its matrices from the output, so here it keeps those it begins with.  ZO learns from the value of the
# loss, which here does not depend on the output.
WAYS: dict[str, Callable[[], Spatial]] = {
    "DFA": DFA,
    "DKP": lambda: DKP(lr=1.0, decay=0.1),
    "OPZO": lambda: OPZO(momentum=1.0, init="dfa"),
    "OPZO, pre": lambda: OPZO(momentum=1.0, init="dfa", position="pre"),
    "ZO": ZO,
    "ZO, pre": lambda: ZO(position="pre"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CHAINS)
def test_a_layer_learns_the_same_whatever_is_behind_it(name: str, way: str) -> None:
    kind = SLTT if name == "deep" else OTTT
    for layer in list(WEIGHTS[name])[1:]:
        assert unmoved(lambda: kind(spatial=WAYS[way]()), name, layer) >= in_front(name, layer)


@pytest.mark.parametrize("way", [BP, SignSymmetric])
@pytest.mark.parametrize("name", CHAINS)
def test_backpropagation_and_signs_carry_it_back(name: str, way: type[Spatial]) -> None:
    *hidden, last = WEIGHTS[name]
    assert not unmoved(lambda: OTTT(spatial=way()), name, last) & set(hidden)


@pytest.mark.parametrize("name", CHAINS)
def test_feedback_alignment_does_not_see_the_readout(name: str) -> None:
    *hidden, last = WEIGHTS[name]
    assert unmoved(lambda: OTTT(spatial=FA()), name, last) >= set(hidden)


def test_matrices_that_learn_from_the_output_do_see_what_is_behind() -> None:
    assert not unmoved(lambda: OTTT(spatial=OPZO(momentum=0.9)), "deep", "6") & {"0", "2", "4"}


class Transports(TorchDispatchMode):
    """Counts how often a gradient is multiplied by one of some weights, on its way to an input."""

    def __init__(self, weights: Params) -> None:
        super().__init__()
        self.weights = {weight.data_ptr() for weight in weights.values()}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = func.overloadpacket.__name__
        by_weight = (
            kind in ("mm", "convolution_backward") and args[-1 if kind == "mm" else 2].data_ptr() in self.weights
        )
        if by_weight and (args[1].is_contiguous() if kind == "mm" else args[-1][0]):  # a forward `mm` has W^T
            self.count += 1
        return func(*args, **(kwargs or {}))


def transports(way: Spatial, name: str, chunk: int) -> int:
    net, (x, y) = Network(NETS[name](0)), sample(name, 0)
    rule = OTTT(spatial=way, chunk=chunk)
    rule.prepare(net, x)
    with Transports({key: p for key, p in net.module.named_parameters() if key.endswith("weight")}) as seen:
        list(rule.updates(net, x, y, CE))
    return seen.count


@pytest.mark.parametrize("chunk, pieces", [(1, 6), (6, 1)])
@pytest.mark.parametrize("name, layers", [("deep", 3), ("conv", 2), ("residual", 3), ("branching", 3)])
def test_no_error_is_multiplied_by_a_weight(name: str, layers: int, chunk: int, pieces: int) -> None:
    assert transports(BP(), name, chunk) == layers * pieces
    for make in (*WAYS.values(), FA, SignSymmetric, lambda: OPZO(momentum=0.9)):
        way = make()
        assert transports(way, name, chunk) == 0, way
