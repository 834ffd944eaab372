"""What the networks compute and how large they are, against the publications and explicit formulas."""

import math

import pytest
import torch
from torch import nn

from spikewright.layers.feedback import Feedback
from spikewright.layers.scale import Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear
from spikewright.models import VGG11BN, Conv, create_model, list_models


def parameters(name: str, shape=(3, 32, 32), classes: int = 10) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, shape, classes, nn.ReLU).parameters())


def test_sizes_are_the_published_ones():
    assert parameters("vgg") == 9_228_362
    assert round(parameters("vgg") / 1e6, 1) == 9.2
    assert parameters("vgg_f") - parameters("vgg") == 9 * 512 * 64 + 64
    assert round(parameters("vgg_f", classes=100) / 1e6, 1) == 9.6
    assert round(parameters("resnet18") / 1e6, 1) == 11.2


@pytest.mark.parametrize(
    "name, torchvision, blocks",
    [("18", 11_689_512, 8), ("34", 21_797_672, 16), ("50", 25_557_032, 16), ("101", 44_549_160, 33)],
)
def test_nf_resnets_have_a_bias_and_gain_per_channel_where_resnets_have_a_norm(name, torchvision, blocks):
    assert parameters(f"nf_resnet{name}", (3, 224, 224), 1000) == torchvision + blocks


@pytest.mark.parametrize("name", list_models())
def test_each_layer_has_a_neuron_of_its_own(name):
    made = []

    def neuron() -> nn.Module:
        made.append(nn.ReLU())
        return made[-1]

    model = create_model(name, (3, 32, 32), 2, neuron, **({} if name in ("mlp", "conv") else {"width": 1 / 32}))
    used = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert made and [id(module) for module in used] == [id(module) for module in made]
    seen = []
    for module in used:
        module.register_forward_hook(lambda module, *_: seen.append(module))
    model(torch.zeros(2, 3, 32, 32))
    assert [id(module) for module in seen] == [id(module) for module in made]


def kinds(modules) -> list[str]:
    return [type(module).__name__ for module in modules]


def test_vgg_is_the_published_sequence():
    model = create_model("vgg", (2, 16, 16), 10, nn.ReLU, dropout=0.1)
    layer, pool = ["ScaledWSConv2d", "ReLU", "Scale", "Dropout"], ["AvgPool2d"]
    assert kinds(model.features) == [*layer * 2, *pool, *layer * 2, *pool, *layer * 2, *pool, *layer * 2]
    convolutions = [module for module in model.features if isinstance(module, ScaledWSConv2d)]
    assert [module.out_channels for module in convolutions] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert {module.factor for module in model.modules() if isinstance(module, Scale)} == {2.74}
    assert all(module.bias.abs().max() == 0 for module in convolutions)
    for module in convolutions:
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * module.out_channels)), rel=0.05)
    assert type(model.readout) is nn.Linear
    assert model.readout.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.readout.bias.any()


def test_vgg_takes_other_layers_and_scales():
    model = create_model("vgg", (1, 4, 4), 2, nn.ReLU, layers=(8, "P", 6), width=0.5, scale=1.5)
    assert kinds(model.features) == ["ScaledWSConv2d", "ReLU", "Scale", "AvgPool2d", "ScaledWSConv2d", "ReLU", "Scale"]
    assert model.features[0].out_channels == 4 and model.features[4].out_channels == 3
    assert model.features[2].factor == 1.5


@pytest.mark.parametrize("rate, last", [(0.0, Scale), (0.2, nn.Dropout)])
def test_feedback_runs_from_the_last_map_to_the_first_current(rate, last):
    model = create_model("vgg_f", (3, 16, 16), 10, nn.ReLU, dropout=rate, width=1 / 8)
    plain = create_model("vgg", (3, 16, 16), 10, nn.ReLU, dropout=rate, width=1 / 8)
    feedback = model.features[1]
    assert isinstance(feedback, Feedback)
    assert isinstance(feedback.source, last) and feedback.source is model.features[-1]
    assert kinds([model.features[0], *model.features[2:]]) == kinds(plain.features)
    enlarge, convolution = feedback.transform
    assert type(convolution) is nn.Conv2d
    assert not convolution.weight.any() and not convolution.bias.any()
    x = torch.randn(2, 64, 2, 2)
    assert torch.equal(enlarge(x), x.repeat_interleave(8, 2).repeat_interleave(8, 3))
    assert len(model.state_dict()) == len(plain.state_dict()) + 2


def test_feedback_meets_maps_that_pooling_has_cut():
    feedback = create_model("vgg_f", (1, 28, 29), 10, nn.ReLU, width=1 / 16).features[1]
    assert feedback.transform(torch.ones(2, 32, 3, 3)).shape == (2, 4, 28, 29)


def test_vgg11_bn_is_the_published_sequence():
    model = VGG11BN((2, 48, 48), 10, nn.ReLU, dropout=0.3)
    layer, pool = ["Conv2d", "BatchNorm2d", "ReLU", "Dropout"], ["AvgPool2d"]
    assert kinds(model.features) == [*layer, *pool, *layer, *pool, *[*layer * 2, *pool] * 3]
    widths = [module.out_channels for module in model.features if isinstance(module, nn.Conv2d)]
    assert widths == [64, 128, 256, 256, 512, 512, 512, 512]
    assert model.readout.in_features == 25_088
    maps = torch.randn(1, 512, 1, 1)
    assert torch.equal(model.pool(maps).view(512, 49), maps.view(512, 1).expand(512, 49))


@pytest.mark.parametrize(
    "norm, layer, head",
    [
        ("none", ["Conv2d", "ReLU", "AvgPool2d"], ["Flatten", "Linear", "ReLU"]),
        ("sws", ["ScaledWSConv2d", "ReLU", "Scale", "AvgPool2d"], ["Flatten", "ScaledWSLinear", "ReLU", "Scale"]),
        ("batch", ["Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d"], ["Flatten", "Linear", "BatchNorm1d", "ReLU"]),
    ],
)
def test_conv_is_the_sequence_of_its_norm(norm, layer, head):
    model = Conv((1, 8, 8), 10, nn.ReLU, norm=norm, channels=(4, 6), bias=False)
    assert kinds(model.features) == [*layer * 2, *head]
    biased = (nn.Conv2d, nn.Linear)
    assert all(module.bias is None for module in model.modules() if isinstance(module, biased))
    assert type(model.readout) is nn.Linear
    assert isinstance(model.features[-3 if norm != "none" else -2], ScaledWSLinear) == (norm == "sws")
