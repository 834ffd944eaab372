"""The models as spiking networks."""

import copy

import pytest
import torch
from torch import Tensor

import spikewright
from spikewright.models import create_model, list_models

SHAPE = (3, 32, 32)
OPTIONS = {
    "conv": {"channels": (4, 8), "hidden": 16},
    "mlp": {"hidden": (16, 12)},
    "mlp_f": {"hidden": (16, 12)},
    **{f"nf_resnet{depth}": {"width": 1 / 16, "stem": "cifar"} for depth in (18, 34, 50, 101)},
}


def lif() -> torch.nn.Module:
    return spikewright.LIF(tau=2.0)


def spiking(name: str, **options) -> spikewright.Network:
    torch.manual_seed(0)
    options = {**OPTIONS.get(name, {"width": 1 / 16}), **options}
    return spikewright.Network(create_model(name, SHAPE, 4, lif, **options))


def rates(net: spikewright.Network, x: Tensor) -> list[float]:
    run = net.start(x)
    with torch.no_grad():
        run.advance(x)
    return list(run.rates().values())


@pytest.mark.parametrize("name", list_models())
def test_every_model_runs_over_time(name):
    output, _ = spiking(name).run(torch.randn(2, 2, *SHAPE))
    assert output.shape == (2, 2, 4)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize(
    "name, options",
    [
        ("mlp", {"hidden": (64, 64, 64)}),
        ("conv", {"channels": (8, 16)}),
        ("conv", {"channels": (8, 16), "hidden": 0}),
        ("conv", {"channels": (8, 16), "hidden": 0, "norm": "batch", "init": "kaiming"}),
        ("resnet18", {}),
        ("stream_resnet18", {"width": 1 / 5}),
        ("nf_resnet18", {}),
        ("alexnet_f", {}),
        ("spide_conv_f", {"width": 1 / 4}),
    ],
)
def test_all_layers_fire_before_training(name, options):
    x = torch.randn(1, 4, *SHAPE).expand(6, -1, -1, -1, -1)
    found = rates(spiking(name, **options), x)
    assert found and all(0.05 < rate < 0.5 for rate in found)


@pytest.mark.parametrize(
    "name, options",
    [
        ("preact_resnet18", {}),
        ("stream_resnet18", {"width": 1 / 5}),
        ("vgg_dsr", {}),
        ("spide_lenet", {"width": 1.0}),
        ("conv", {"spiking_readout": True}),
    ],
)
def test_every_weight_of_it_learns_from_three_steps(name, options):
    torch.manual_seed(0)
    options = {**OPTIONS.get(name, {"width": 1 / 16}), **options}
    model = create_model(name, SHAPE, 4, lambda: spikewright.IF(threshold=0.2), **options).double()
    x, loss = torch.randn(3, 4, *SHAPE).double(), spikewright.losses.OnRate(torch.nn.CrossEntropyLoss())
    for _ in spikewright.rules.BPTT().updates(spikewright.Network(model), x, torch.arange(4), loss):
        found = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in found.items() if grad is None or not grad.isfinite().all()] == []
    assert [name for name, grad in found.items() if name.endswith("weight") and grad.abs().max() < 1e-12] == []


SHALLOW = {"layers": (16, "P", 32), "width": 1.0}


def loud(steps: int) -> Tensor:
    return 3 * torch.randn(1, 2, *SHAPE).expand(steps, -1, -1, -1, -1)


def test_feedback_starts_without_effect_and_arrives_one_step_late():
    net, plain, x = spiking("vgg_f", **SHALLOW), spiking("vgg", **SHALLOW), loud(3)
    silent = net(x)
    assert silent.any() and torch.equal(silent, plain(x))
    with torch.no_grad():
        net.module.features[1].transform[1].bias.fill_(0.8)
    heard = net(x)
    assert torch.equal(heard[0], silent[0])
    assert not torch.equal(heard[1], silent[1])


def test_feedback_learns_from_the_second_step_on():
    net, x = spiking("vgg_f", **SHALLOW), loud(2)
    convolution = net.module.features[1].transform[1]
    net(x[:1]).square().sum().backward()
    assert convolution.weight.grad is None
    net(x).square().sum().backward()
    assert convolution.weight.grad.any() and convolution.bias.grad.any()


def test_feedback_sends_back_what_dropout_has_left():
    _, state = spiking("vgg_f", dropout=0.5, **SHALLOW).run(loud(3))
    last, mask = state["features.1"]["last"], state["features.9"]["mask"]
    assert 0.3 < (mask == 0).double().mean() < 0.7
    assert last.any() and not last[mask == 0].any()


def test_a_copied_vgg_f_listens_to_itself():
    model = spiking("vgg_f").release()
    twin = copy.deepcopy(model)
    assert twin.features[1].source is twin.features[-1]
    assert twin.features[1].source is not model.features[-1]
