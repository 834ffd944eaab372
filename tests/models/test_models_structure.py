"""What the networks compute and how large they are, against the publications and explicit formulas."""

import math

import pytest
import torch
from torch import nn

from spikewright.layers.feedback import Feedback
from spikewright.layers.scale import Scale
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear
from spikewright.models import VGG11BN, Conv, PreActResNet18, create_model, list_models


def parameters(name: str, shape=(3, 32, 32), classes: int = 10) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_model(name, shape, classes, nn.ReLU).parameters())


def test_sizes_are_the_published_ones():
    assert parameters("vgg") == 9_228_362
    assert round(parameters("vgg") / 1e6, 1) == 9.2
    assert parameters("vgg_f") - parameters("vgg") == 9 * 512 * 64 + 64
    assert round(parameters("vgg_f", classes=100) / 1e6, 1) == 9.6
    assert round(parameters("resnet18") / 1e6, 1) == 11.2
    assert parameters("spide_lenet", (1, 28, 28)) == 606_740


@pytest.mark.parametrize(
    "name, torchvision, blocks",
    [("18", 11_689_512, 8), ("34", 21_797_672, 16), ("50", 25_557_032, 16), ("101", 44_549_160, 33)],
)
def test_nf_resnets_have_a_bias_and_gain_per_channel_where_resnets_have_a_norm(name, torchvision, blocks):
    assert parameters(f"nf_resnet{name}", (3, 224, 224), 1000) == torchvision + blocks


def test_a_spiking_readout_adds_a_norm_only():
    assert parameters("preact_resnet18") - parameters("resnet18") == 2 * 10
    assert parameters("vgg_dsr", (2, 48, 48)) - parameters("vgg11_bn", (2, 48, 48)) == 2 * 10


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


@pytest.mark.parametrize("norm, output", [("none", ["ReLU"]), ("sws", ["ReLU"]), ("batch", ["BatchNorm1d", "ReLU"])])
def test_conv_may_end_in_neurons(norm, output):
    torch.manual_seed(0)
    plain, spiking = (Conv((1, 8, 8), 10, nn.ReLU, norm=norm, spiking_readout=spiking) for spiking in (False, True))
    assert kinds(plain.output) == [] and kinds(spiking.output) == output
    assert set(plain.state_dict()) == {name for name in spiking.state_dict() if not name.startswith("output")}
    x = torch.randn(4, 1, 8, 8)
    currents = spiking.readout(spiking.features(x))
    if norm == "batch":
        currents = (currents - currents.mean(0)) / (currents.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(spiking(x), currents.relu())


def test_conv_without_a_hidden_layer_is_the_network_of_hlop():
    model = Conv((3, 32, 32), 10, nn.ReLU, channels=(64, 128, 256), hidden=0, norm="batch", bias=False)
    assert kinds(model.features) == [*["Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d"] * 3, "Flatten"]
    weights = {name: tuple(p.shape) for name, p in model.named_parameters() if p.dim() > 1}
    convolutions = {"features.0": (64, 3, 3, 3), "features.4": (128, 64, 3, 3), "features.8": (256, 128, 3, 3)}
    assert weights == {f"{name}.weight": s for name, s in (convolutions | {"readout": (10, 4 * 4 * 256)}).items()}
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), model.features(x).flatten(1) @ model.readout.weight.T)


@pytest.mark.parametrize("hidden", [0, 12])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_starts_as_told(hidden, bias):
    options = {"channels": (40, 80), "hidden": hidden, "norm": "batch", "bias": bias}
    plain, kaiming = (Conv((10, 8, 8), 50, nn.ReLU, **options, init=init) for init in ("spikes", "kaiming"))
    assert list(plain.state_dict()) == list(kaiming.state_dict())
    for index, fan_in, fan_out in ((0, 90, 360), (4, 360, 720)):
        expected = (1 if index == 0 else 2.74) / math.sqrt(fan_in)
        assert plain.features[index].weight.std().item() == pytest.approx(expected, rel=0.1)
        assert kaiming.features[index].weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
    assert kaiming.readout.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert plain.readout.weight.abs().max() > 0.9 / math.sqrt(hidden or 320), "as layers are made"
    assert [name for name, p in kaiming.named_parameters() if name.endswith("bias") and p.any()] == []
    assert (kaiming.readout.bias is not None) == (kaiming.features[0].bias is not None) == bias


def test_preact_resnet18_has_neurons_behind_the_pooling_and_the_readout():
    model = PreActResNet18((3, 32, 32), 10, nn.ReLU, width=1 / 16, dropout=0.1)
    assert kinds(model.leave) == ["BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "ReLU", "Flatten", "Dropout"]
    assert kinds(model.output) == ["BatchNorm1d", "ReLU"]
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == 19
    assert model.stem.bias is None and not model.readout.bias.any()
    plain = PreActResNet18((3, 32, 32), 10, nn.ReLU, width=1 / 16, spiking_readout=False)
    assert kinds(plain.output) == [] and sum(isinstance(module, nn.ReLU) for module in plain.modules()) == 18


def test_preact_resnet18_has_the_blocks_of_resnet18():
    torch.manual_seed(0)
    ours, theirs = (
        create_model(name, (3, 16, 16), 10, nn.ReLU, width=1 / 8) for name in ("preact_resnet18", "resnet18")
    )
    assert repr(ours.blocks) == repr(theirs.blocks) and repr(ours.stem) == repr(theirs.stem)
    x = torch.randn(2, 3, 16, 16)
    ours.blocks.load_state_dict(theirs.blocks.state_dict())
    ours.stem.load_state_dict(theirs.stem.state_dict())
    assert torch.equal(ours.blocks(ours.stem(x)), theirs.blocks(theirs.stem(x)))


def test_vgg_dsr_is_vgg11_bn_with_dropout_and_neurons_behind_the_readout():
    torch.manual_seed(0)
    model, plain = (create_model(name, (2, 48, 48), 10, nn.ReLU) for name in ("vgg_dsr", "vgg11_bn"))
    features = [module for module in model.features if not isinstance(module, nn.Dropout)]
    assert kinds(features) == kinds(plain.features)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    assert kinds(model.output) == ["BatchNorm1d", "ReLU"] and kinds(plain.output) == []
    assert model.readout.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_spide_lenet_is_the_published_sequence():
    torch.manual_seed(0)
    model = create_model("spide_lenet", (1, 28, 28), 10, nn.ReLU)
    fire = ["Conv2d", "ReLU", "AvgPool2d", "ReLU"]
    assert kinds(model.features) == [*fire * 2, "Flatten", "Linear", "Dropout", "ReLU"]
    assert [module.out_channels for module in model.features if isinstance(module, nn.Conv2d)] == [15, 40]
    assert model.features[-3].in_features == 1960 and model.readout.in_features == 300
    for module in (model.features[0], model.features[4], model.features[-3]):
        spread = math.sqrt(2 / module.weight[0].numel())
        assert module.weight.std().item() == pytest.approx(spread, rel=0.1) and not module.bias.any()
    assert model.features[-2].p == 0.5 and model.readout.bias.any()
