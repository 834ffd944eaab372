"""Normaliser-free residual networks of the usual depths."""

from collections.abc import Callable

from spikewright.layers.scale import SPIKE_SCALE
from spikewright.models._preset import preset
from spikewright.models.nf_resnet import NFResNet


def _depth(name: str, summary: str, blocks: tuple[int, ...], bottleneck: bool) -> Callable[..., NFResNet]:
    settled = {"blocks": blocks, "bottleneck": bottleneck, "alpha": 0.2, "scale": SPIKE_SCALE}
    return preset(name, NFResNet, f"Normaliser-free ResNet of {summary}", settled)


nf_resnet18 = _depth("nf_resnet18", "eight blocks of two convolutions", (2, 2, 2, 2), False)
nf_resnet34 = _depth("nf_resnet34", "sixteen blocks of two convolutions", (3, 4, 6, 3), False)
nf_resnet50 = _depth("nf_resnet50", "sixteen bottleneck blocks of three convolutions", (3, 4, 6, 3), True)
nf_resnet101 = _depth("nf_resnet101", "33 bottleneck blocks of three convolutions", (3, 4, 23, 3), True)
