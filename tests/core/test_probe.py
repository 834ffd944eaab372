"""The probe that reads the wiring: it leaves no mark, and is not remembered beyond what it was read from."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import SpikewrightError
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT
from tests.core.support import CE, Lambda, two_layers
from tests.nets import sample
from tests.oracles.compare import assert_agree
from tests.rules.support import NOISY, collected, gradients


def test_a_probe_leaves_no_mark() -> None:
    module = nn.Sequential(NOISY["mlp"](), nn.Dropout(0.5)).train()
    net, (x, _) = Network(module), sample("mlp", 0)
    before, random = deepcopy(module.state_dict()), torch.get_rng_state()
    net.wiring(x)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(m.training for m in module.modules()) and not any(g.any() for g in collected(module).values())


def counted() -> nn.Module:
    """A layer that counts its calls in a buffer."""

    def forward(m: Lambda, x: Tensor) -> Tensor:
        m.calls += 1
        return x

    layer = Lambda(forward)
    layer.register_buffer("calls", torch.zeros(()))
    return layer


@pytest.mark.parametrize("build", [counted, lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(12, 12))])
def test_nor_in_the_buffers_of_layers_that_write_to_them(build: Callable[[], nn.Module]) -> None:
    module = nn.Sequential(nn.Linear(8, 12), build(), LIF(), nn.Linear(12, 4)).double()
    before = deepcopy(module.state_dict())
    Network(module).wiring(sample("mlp", 0)[0])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_parameter_that_is_thawed() -> None:
    module = two_layers()
    module[0].weight.requires_grad_(False)
    net, (x, _) = Network(module), sample("mlp", 0)
    frozen = net.wiring(x).synapses
    module[0].weight.requires_grad_(True)
    assert net.wiring(x).receivers["0.weight"] == {"1"}
    assert frozen["2"].receivers.keys() == {"3"}


@pytest.mark.parametrize("index, layer", [(3, LIF(tau=8.0)), (2, nn.Linear(12, 12)), (2, nn.Identity())])
def test_a_layer_that_is_replaced(index: int, layer: nn.Module) -> None:
    """Either the new layer is learned like one that was there from the start, or it is refused."""
    module, (x, y) = two_layers(), sample("mlp", 0)
    net = Network(module)
    net.run(x)
    module[index] = layer.double()
    expected = gradients(OTTT(), deepcopy(module), x, y)
    try:
        list(OTTT().updates(net, x, y, CE))
    except SpikewrightError:
        return
    assert_agree(collected(module), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_first_run_without_gradients(mode: type[torch.no_grad]) -> None:
    net, (x, _) = Network(two_layers()), sample("mlp", 0)
    with mode():
        net.run(x)
    assert set(net.wiring(x).synapses["2"].receivers) == {"3"}
    assert net.wiring(x).receivers["2.weight"] == {"3"}
