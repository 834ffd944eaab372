"""What a probe cannot follow is claimed nothing of: hooks of others, weights that move on at every use."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.core.support import CE, promised, two_layers
from tests.nets import sample


def gate(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.sigmoid(output.mean(1, keepdim=True)) * output


def halve(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0] * (given[0].detach() > 0.3),)


@pytest.mark.parametrize(
    "hook",
    [lambda m: m.register_forward_hook(gate), lambda m: m.register_forward_pre_hook(halve)],
    ids=["after", "before"],
)
@pytest.mark.parametrize("place", [2, 3])
def test_no_claim_is_broken_by_a_hook(hook: Callable[[nn.Module], object], place: int) -> None:
    module, (x, y) = two_layers(), sample("mlp", 0)
    assert {"2.weight", "4.weight"} <= promised(certify(Network(module), OTTT(), x, y, CE))
    hook(module[place])
    found = certify(Network(module), OTTT(), x, y, CE)
    assert found.ok, found.table()
    assert "2.weight" not in promised(found)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("rule", [SLTT(), OTTT(), OTTT(online=True), BPTT(chunk=2)], ids=repr)
def test_no_claim_where_other_chunks_see_other_weights(norm: Callable[[nn.Module], nn.Module], rule: Rule) -> None:
    torch.manual_seed(1)
    module = two_layers()
    for index in (0, 2, 4):
        norm(module[index])
    x, y = sample("mlp", 0)
    training = certify(Network(module), rule, x, y, CE)
    assert training.ok and not promised(training), training.table()
    assert promised(certify(Network(module.eval()), rule, x, y, CE))
