"""Modules that the tests of the core share."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import Certificate, certify
from spikewright.rules import OTTT, Rule
from tests.oracles.draw import sample

CE = PerStep(F.cross_entropy)


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in double precision, with synapses that keep its neurons firing at input from 0 to 1.5."""
    source = torch.Generator().manual_seed(seed)
    for name, parameter in module.double().named_parameters():
        noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
        if parameter.dim() > 1:
            parameter.data = 2.5 / math.sqrt(parameter[0].numel()) * noise
        elif name.endswith("bias"):
            parameter.data = 0.45 + 0.2 * noise
    return module


def two_layers() -> nn.Sequential:
    """Two layers of neurons between three linear layers; input `[8]`."""
    layers = [nn.Linear(8, 12), LIF(), nn.Linear(12, 12), LIF(), nn.Linear(12, 4)]
    return cast(nn.Sequential, lively(nn.Sequential(*layers)))


class Lambda(nn.Module):
    """Layers by name, and a function of them for a forward."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._function = forward

    def forward(self, x: Tensor) -> object:
        return self._function(self, x)


def certificate(module: nn.Module, rule: Rule | None = None, data: str = "mlp") -> Certificate:
    """Certify a rule, OTTT by default, on the data of a network of `tests/nets.py`."""
    return certify(Network(module), rule or OTTT(), *sample(data, 0), CE)


def promised(found: Certificate) -> set[str]:
    return {row.site for row in found.rows if row.exact}


class Doubled(torch.autograd.Function):
    """An operation of one's own, without forward-mode differentiation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * grads[0]
