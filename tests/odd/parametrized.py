"""Layers of odd networks whose weight is computed from parameters."""

import torch
from torch import nn

from spikewright.layers import restrict_spectral
from tests.odd.constructs import construct
from tests.odd.module import Draw, OddNet


@construct
def restricted_weight(net: OddNet, draw: Draw) -> bool | None:
    """A weight of bounded norm; the vectors that the norm is found by are those of another weight."""
    inside = [m for place in range(net.depth) for m in net.layer(place).modules()]
    layers = [m for m in inside if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    free = [m for m in layers if sum(other.weight is m.weight for other in layers) == 1]
    if not free:
        return False
    layer = draw.pick(*free)
    weight, scale = layer.weight, 2.2 / layer.weight[0].numel() ** 0.5
    shape, kind = weight.shape, weight.dtype
    with torch.no_grad():
        weight.copy_(scale * torch.randn(shape, dtype=kind, generator=draw.generator))
        restrict_spectral(layer, limit=4.0)
        weight.copy_(scale * torch.randn(shape, dtype=kind, generator=draw.generator))
