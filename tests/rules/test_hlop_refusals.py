"""What HLOP refuses, before anything is learned, and what to do about it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from spikewright.errors import ConfigError, IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, HLOP, OTTT, SLTT
from tests.nets import sample
from tests.rules.support import dense, image
from tests.subspaces.wrapping import end_task, net, old_rows, run, weight_gradients


def mlp(neurons: nn.Module, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12, bias=bias), neurons, nn.Linear(12, 4, bias=bias))


MOVING: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "batch norm of vectors": (dense, "mlp", "'1' normalises by statistics that change"),
    "batch norm of images": (image, "conv", "'1' normalises by statistics that change"),
    "its gain and shift": (lambda: dense().eval(), "mlp", "'1.weight' may change"),
    "a leak": (lambda: mlp(LIF(tau=4.0, learn_tau=True), bias=False), "mlp", "'1.leak_logit' may change"),
    "biases": (lambda: mlp(LIF()), "mlp", r"'0.bias' may change \(and 1 more\)"),
    "a norm of layers": (lambda: nn.Sequential(nn.LayerNorm(8), mlp(LIF())), "mlp", "'0.weight' may change"),
}


@pytest.mark.parametrize("case", MOVING)
def test_what_moves_beside_weights_is_named_and_can_be_frozen(case: str) -> None:
    make, data, message = MOVING[case]
    module, (x, y) = make(), sample(data, 0)
    around, network = HLOP(SLTT(), rows=2), Network(module)
    run(around, module, x, y)  # in the first task, all may
    module.zero_grad()
    end_task(around, module, x, y)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    module.train(case != "its gain and shift")
    with pytest.raises(IncompatibleRule, match=f"HLOP .*{message}.*rule.freeze\\(net\\) after net.train\\(\\)"):
        run(around, module, x, y)
    assert all(parameter.grad is None for parameter in module.parameters())
    around.freeze(network)
    still = {name: buffer.clone() for name, buffer in module.state_dict().items()}
    run(around, module, x, y)
    assert weight_gradients(module, old_rows(around)).keys() == old_rows(around).keys()
    assert all(torch.equal(still[name], value) for name, value in module.state_dict().items())


def test_a_free_module_may_move_as_it_likes() -> None:
    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.lif = nn.Linear(8, 12, bias=False), LIF()
            self.head = nn.Sequential(nn.Linear(12, 6), nn.Linear(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lif(self.body(x)))

    module, (x, y) = Headed(), sample("mlp", 0)
    around = HLOP(OTTT(), rows=2, free=("head",))
    end_task(around, module, x, y)
    assert list(around.subspaces.by_name()) == ["body"]
    run(around, module, x, y)
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("name", ["7", "lif", "0.weight", "1"])
def test_free_names_layers_only(name: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    with pytest.raises(ConfigError, match=f"'{name}', which is no linear or convolution layer.*Known: 0, 2, 4"):
        run(HLOP(OTTT(), free=(name,)), module, x, y)


@pytest.mark.parametrize("rule", [BPTT(), DSR()], ids=repr)
def test_a_transposed_convolution_has_to_be_free(rule: Any) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.ConvTranspose2d(2, 3, 3), LIF(), nn.Flatten(), nn.Linear(300, 4))
    x, y = sample("conv", 0)
    around = HLOP(rule, rows=2)
    with pytest.raises(IncompatibleRule, match=r"'0' is a transposed convolution.*free=\('0',\)"):
        run(around, module, x, y)
    with pytest.raises(IncompatibleRule, match="'0' is a transposed convolution"):
        around.prepare(Network(module), x)
    free = HLOP(rule, rows=2, free=("0",))
    run(free, module, x, y)
    assert list(free.subspaces.by_name()) == ["3"] and module[0].weight.grad is not None


def test_a_parametrised_weight_has_to_be_free() -> None:
    module, (x, y) = mlp(LIF()), sample("mlp", 0)
    parametrizations.weight_norm(module.get_submodule("0"))
    with pytest.raises(IncompatibleRule, match=r"'0' has no weight of its own.*free=\('0',\)"):
        run(HLOP(SLTT()), module, x, y)
    run(HLOP(SLTT(), free=("0",)), module, x, y)


def test_the_rule_inside_may_refuse_too() -> None:
    module, (x, y) = net("hard_reset"), sample("hard_reset", 0)
    with pytest.raises(IncompatibleRule, match="DSR"):
        run(HLOP(DSR()), module, x, y)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rows": -1}, r"rows=-1\): give a share"),
    ({"rows": 1.5}, r"rows=1.5\): give a share"),
    ({"rows": []}, "give a share"),
    ({"rows": {"*": -0.1}}, r"rows=-0.1\): give a share"),
    ({"rate": 0.0}, "rate=0.0"),
    ({"rate": {"*": -1.0}}, "rate=-1.0"),
    ({"iterations": 0}, "iterations=0"),
    ({"momentum": 1.0}, "momentum=1.0"),
    ({"clamp": 0.0}, "clamp=0.0"),
    ({"lateral_steps": 0}, "steps=0"),
    ({"lateral_scale": 0.0}, "scale=0.0"),
    ({"observe": "step"}, "observe='step'.*Did you mean 'steps'"),
    ({"project": "input"}, "project='input'.*Did you mean 'inputs'"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=str)
def test_arguments_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HLOP(OTTT(), **wrong)


@pytest.mark.parametrize("table", ["rows", "rate"])
def test_a_table_has_to_say_something_of_every_layer(table: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    values: dict[str, Any] = {"0": 0.5, "4": 0.5}
    with pytest.raises(ConfigError, match=f"{table}=.*has no entry for '2'.*Known: 0, 4"):
        run(HLOP(OTTT(), **{"rows": 0.5, table: values}), module, x, y)
    run(HLOP(OTTT(), free=("2",), **{"rows": 0.5, table: values}), module, x, y)


def test_it_does_not_go_around_itself() -> None:
    with pytest.raises(ConfigError, match="HLOP"):
        HLOP(HLOP(OTTT()))
