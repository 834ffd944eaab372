"""What the blocks of the residual networks compute, against explicit formulas."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikewright.layers.weight_standardization import ScaledWSConv2d
from spikewright.models import NFResNet, ResNet18
from spikewright.models.nf_resnet import NFBlock
from spikewright.models.resnet import SpikeShortcutBlock


def normalise(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("fan_out, stride", [(4, 1), (6, 1), (4, 2)])
def test_the_shortcut_of_resnet18_carries_spikes(fan_out, stride):
    torch.manual_seed(0)
    block, x = SpikeShortcutBlock(4, fan_out, stride, nn.ReLU, 0.0).double(), torch.randn(3, 4, 6, 6).double()
    spikes = normalise(x).relu()
    first, _, _, second = block.branch
    hidden = F.conv2d(spikes, first.weight, first.bias, stride, 1)
    expected = F.conv2d(normalise(hidden).relu(), second.weight, second.bias, 1, 1)
    if fan_out == 4 and stride == 1:
        expected = expected + spikes
    else:
        expected = expected + F.conv2d(spikes, block.shortcut.weight, block.shortcut.bias, stride)
    torch.testing.assert_close(block(x), expected)


def test_resnet18_halves_its_maps_from_the_second_stage_on():
    model = ResNet18((3, 32, 32), 10, nn.ReLU, width=1 / 16)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda *hook: shapes.append(tuple(hook[2].shape[1:])))
    model(torch.zeros(2, 3, 32, 32))
    assert shapes[::2] == shapes[1::2] == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    assert model.stem.bias is None and not model.readout.bias.any()
    biases = [module.bias for module in model.blocks.modules() if isinstance(module, nn.Conv2d)]
    assert len(biases) == 8 * 2 + 3 and all(bias.any() for bias in biases)


def effective(layer: ScaledWSConv2d) -> Tensor:
    w = layer.weight.flatten(1)
    w = (w - w.mean(1, keepdim=True)) / (w.var(1, keepdim=True) * w.shape[1] + 1e-4).sqrt()
    return w.view_as(layer.weight) * layer.gain


@pytest.mark.parametrize("fan_in, stride, bottleneck", [(3, 1, False), (3, 2, False), (12, 1, True), (12, 2, True)])
def test_nf_block_computes_its_equations(fan_in, stride, bottleneck):
    torch.manual_seed(0)
    block = NFBlock(fan_in, 3, stride, nn.ReLU, bottleneck=bottleneck, alpha=0.2, beta=1.3, scale=2.74).double()
    nn.init.constant_(block.skipinit_gain, 0.7)
    x = torch.randn(2, fan_in, 6, 6).double()
    spikes = y = 2.74 * (x / 1.3).relu()
    convolutions = [module for module in block.branch if isinstance(module, ScaledWSConv2d)]
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    for index, (layer, step) in enumerate(zip(convolutions, strides, strict=True)):
        y = 2.74 * y.relu() if index else y
        y = F.conv2d(y, effective(layer), layer.bias, step, layer.kernel_size[0] // 2)
    assert (block.shortcut is None) == (stride == 1)
    stream = x if stride == 1 else F.conv2d(spikes, effective(block.shortcut), block.shortcut.bias, stride)
    torch.testing.assert_close(block(x), stream + y * 0.7 * 0.2)


@pytest.mark.parametrize(
    "bottleneck, variances",
    [(False, [1, 1.04, 1.08, 1.12, 1.04, 1.08]), (True, [1, 1.04, 1.08, 1.12, 1.04, 1.08])],
)
def test_expected_variances_restart_where_the_shape_changes(bottleneck, variances):
    model = NFResNet((3, 8, 8), 2, nn.ReLU, blocks=(3, 3), bottleneck=bottleneck, width=1 / 16)
    assert [block.beta**2 for block in model.blocks] == pytest.approx(variances)
    shortcuts = [index for index, block in enumerate(model.blocks) if block.shortcut is not None]
    assert shortcuts == ([0, 3] if bottleneck else [3])


def test_the_stems_of_nf_resnet():
    imagenet, cifar = (NFResNet((3, 32, 32), 2, nn.ReLU, stem=stem).stem for stem in ("imagenet", "cifar"))
    x = torch.randn(1, 3, 32, 32)
    assert imagenet(x).shape == (1, 64, 8, 8)
    assert cifar(x).shape == (1, 64, 32, 32)
    expected = F.conv2d(x, imagenet[0].effective_weight(), stride=2, padding=3)
    torch.testing.assert_close(imagenet(x), F.avg_pool2d(expected, 3, 2, 1))


def test_nf_resnet_starts_silent():
    model = NFResNet((3, 8, 8), 5, nn.ReLU, width=1 / 16)
    assert not model.readout.weight.any()
    assert all(block.skipinit_gain == 0 for block in model.blocks)
