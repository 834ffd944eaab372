"""What was not wrapped, or wrapped too often, is said; and so is a tensor that is not dense."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.losses import PerStep
from spikewright.rules import BPTT, EWC, HLOP, OPZO

NET = sw.Network(nn.Sequential(nn.Linear(4, 5), sw.LIF(), nn.Linear(5, 3)).float())
X, Y, LOSS = torch.rand(3, 2, 4).float(), torch.tensor([0, 2]), PerStep(nn.CrossEntropyLoss())
OF_NET: dict[str, Callable[[Any], object]] = {
    "updates": lambda net: BPTT().updates(net, X, Y, LOSS),
    "certify": lambda net: sw.certify(net, BPTT(), X, Y, LOSS),
    "energy": lambda net: sw.energy(net, BPTT(), X, Y, LOSS),
    "plan": lambda net: sw.plan(net, BPTT(), X.shape),
    "prepare": lambda net: BPTT().prepare(net, X),
    "prepare OPZO": lambda net: OPZO().prepare(net, X),
    "prepare HLOP": lambda net: HLOP(BPTT()).prepare(net, X),
    "next task": lambda net: EWC(BPTT()).next_task(net, X, Y, LOSS),
    "freeze": lambda net: EWC(BPTT()).freeze(net),
}
OF_LOSS: dict[str, Callable[[Any], object]] = {
    "updates": lambda loss: BPTT().updates(NET, X, Y, loss),
    "certify": lambda loss: sw.certify(NET, BPTT(), X, Y, loss),
    "energy": lambda loss: sw.energy(NET, BPTT(), X, Y, loss),
    "next task": lambda loss: EWC(BPTT()).next_task(NET, X, Y, loss),
}


@pytest.mark.parametrize("use", OF_NET)
def test_networks_that_are_none(use: str) -> None:
    for net, message in (
        (NET.module, r"was given Sequential as its network.* spikewright.Network\(module\)"),
        (nn.DataParallel(NET.module), r"was given DataParallel as its network.* spikewright.Network\(net.module\)"),
        (nn.DataParallel(NET), r"was given DataParallel as its network, around a Network.*Unwrap it: give net.module"),
        (nn.Linear, r"was given the class Linear"),
        (None, r"was given None as its network"),
    ):
        with pytest.raises(ConfigError, match=message):
            OF_NET[use](net)


def test_a_network_wraps_the_plain_module() -> None:
    for module, message in (
        (NET, r"Network was given Network, which already runs over time.*Network\(network.module\)"),
        (nn.DataParallel(NET.module), r"was given DataParallel, which copies or hooks .*Network\(wrapped.module\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            sw.Network(module)


@pytest.mark.parametrize("use", OF_LOSS)
def test_losses_that_are_none(use: str) -> None:
    for loss, message in (
        (nn.CrossEntropyLoss(), r"losses.PerStep\(nn.CrossEntropyLoss\(\)\).*losses.OnRate\(nn.CrossEntropyLoss\(\)\)"),
        (nn.MSELoss, r"was given MSELoss as its loss.*PerStep\(nn.MSELoss\(\)\)"),
        (F.cross_entropy, r"PerStep\(cross_entropy\).*OnRate\(cross_entropy\)"),
        (lambda o, y: o.sum(), r"was given <lambda> as its loss.*PerStep\(nn.CrossEntropyLoss\(\)\)"),
        (PerStep, r"was given the class PerStep as its loss. Give an instance"),
        (None, r"PerStep\(nn.CrossEntropyLoss\(\)\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            OF_LOSS[use](loss)


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda x: x.to_sparse(), r"{} is a tensor that is sparse_coo.*Give {}.to_dense\(\)"),
    "meta": (lambda x: x.to("meta"), r"{} is a tensor that is without values"),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_not_dense(kind: str) -> None:
    convert, message = ODD[kind]
    for use in (lambda x: NET.run(x), lambda x: BPTT().updates(NET, x, Y, LOSS), lambda x: NET.wiring(x)):
        with pytest.raises(ShapeError, match=message.format("x", "x")):
            use(convert(X))
    with pytest.raises(ShapeError, match=message.format("y", "y")):
        BPTT().updates(NET, X, convert(Y), LOSS)


def test_inputs_of_other_numbers() -> None:
    for kind in (torch.uint8, torch.int16, torch.bool, torch.float64, torch.float16):
        with pytest.raises(ShapeError, match=r"compute in torch.float32: give it x.to\(torch.float32\)"):
            NET.run(X.to(kind))
    with pytest.raises(ShapeError, match=r"runs on real numbers: give it x.real"):
        NET.run(X.to(torch.complex64))
    with torch.inference_mode():
        x = X * 1
    with pytest.raises(InputError, match=r"made in inference mode.*x.clone\(\)"):
        NET.run(x)
    with torch.inference_mode():
        NET.run(x)
    NET.run(x.clone())
