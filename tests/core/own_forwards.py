"""Batch norm, dropout and convolution layers with a forward of their own, each beside the same layers written apart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers import Feedback, JointBatchNorm2d, PerStepBatchNorm2d, StepDropout
from spikewright.neurons import IF, LIF, Dynamics
from spikewright.temporal import SiteState

Act = Callable[[], nn.Module]


class NormAct(nn.BatchNorm2d):
    def __init__(self, channels: int, act: Act = LIF, **options: Any) -> None:
        super().__init__(channels, **options)
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class FlatNormAct(nn.BatchNorm1d):
    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class PerStepAct(PerStepBatchNorm2d):
    def __init__(self, channels: int, act: Act = LIF) -> None:
        super().__init__(channels)
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class JointAct(JointBatchNorm2d):
    def __init__(self, channels: int, act: Act = LIF) -> None:
        super().__init__(channels)
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class SyncAct(nn.SyncBatchNorm):
    def __init__(self, channels: int, act: Act = LIF) -> None:
        super().__init__(channels)
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class NativeAct(nn.BatchNorm2d):
    """Calls the function of torch that is below `F.batch_norm`."""

    def __init__(self, channels: int, act: Act = LIF) -> None:
        super().__init__(channels)
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        values = self.weight, self.bias, self.running_mean, self.running_var
        return self.act(torch.batch_norm(input, *values, self.training, 0.1, self.eps, False))


class ActNorm(NormAct):
    """Activation in front of the norm."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.BatchNorm2d.forward(self, self.act(input))


class DropNormAct(nn.BatchNorm2d):
    """Masks, a second layer and two kinds of neurons around the operation."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.before = IF(threshold=0.3)
        self.drop = nn.Dropout2d(0.3)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.step = StepDropout(0.2)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        x = self.drop(super().forward(self.before(input)))
        return self.act(self.step(self.norm(self.mix(x))))


class DropAct(nn.Dropout):
    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class Affine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + 0.1


class DropAffine(nn.Dropout):
    """Does more than drop, in evaluation too, with no module inside to tell."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input) + 0.1


class StepDropAct(StepDropout):
    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class ConvAct(nn.Conv2d):
    """A convolution that holds a norm, neurons, a second convolution and a linear layer by function."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = LIF()
        self.inner = nn.Conv2d(outputs, outputs, 1)
        self.last = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.last(self.inner(self.act(self.norm(super().forward(input)))))


class Mixing(LIF):
    """Neurons whose current is mixed inside their scan."""

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=self.leak, linear=True, soft_reset=True, detached_reset=True)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        mixed = F.linear(x, torch.eye(x.shape[-1], dtype=x.dtype).flip(0))
        return super().scan(mixed, state, through_time)


class LinearMixing(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.act = Mixing()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class GroupAct(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(2, channels)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.act(super().forward(input))


class FilterResponseAct(nn.Module):
    """Filter response normalisation with neurons in the place of its thresholded unit."""

    def __init__(self, channels: int, act: Act = LIF) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(v * torch.ones(channels)) for v in (1.0, 0.4))
        self.act = act()

    def forward(self, input: Tensor) -> Tensor:
        x = input * torch.rsqrt(input.square().mean((2, 3), keepdim=True) + 1e-5)
        return self.act(x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1))


class Split(nn.BatchNorm2d):
    """Normalises the halves of a batch apart."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.second = nn.BatchNorm2d(channels)
        self.act = LIF()

    def forward(self, input: Tensor) -> Tensor:
        first, second = input.chunk(2)
        return self.act(torch.cat([super().forward(first), self.second(second)]))


class ByHand(NormAct):
    """Normalises without torch's function in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        variance, mean = torch.var_mean(input, (0, 2, 3), keepdim=True)
        return self.act((input - mean) * torch.rsqrt(variance + self.eps))


class NormRelu(nn.BatchNorm2d):
    """Holds nothing, but does more than its operation."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


class Pair(NamedTuple):
    """A block of four channels, and the same one out of plain layers, with parameters and buffers in one order."""

    joined: Callable[[], nn.Module]
    apart: Callable[[], nn.Module]


def _norm_act(**options: Any) -> Pair:
    return Pair(lambda: NormAct(4, **options), lambda: nn.Sequential(nn.BatchNorm2d(4, **options), LIF()))


def _drop_norm_act() -> nn.Sequential:
    norms = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    return nn.Sequential(IF(threshold=0.3), norms[0], nn.Dropout2d(0.3), *norms[1:], StepDropout(0.2), LIF())


def _conv_act() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), LIF(), nn.Conv2d(4, 4, 1), LIF())


def _norm_lif(kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(kind(4), LIF())


PAIRS = {
    "norm-act": _norm_act(),
    "cumulative": _norm_act(momentum=None),
    "without-statistics": _norm_act(track_running_stats=False),
    "without-scale": _norm_act(affine=False),
    "per-step": Pair(lambda: PerStepAct(4), lambda: _norm_lif(PerStepBatchNorm2d)),
    "sync": Pair(lambda: SyncAct(4), _norm_lif),
    "act-norm": Pair(lambda: ActNorm(4), lambda: nn.Sequential(LIF(), nn.BatchNorm2d(4))),
    "drop-norm-act": Pair(lambda: DropNormAct(4), _drop_norm_act),
    "drop-act": Pair(lambda: DropAct(0.3), lambda: nn.Sequential(nn.Dropout(0.3), LIF())),
    "drop-affine": Pair(
        lambda: nn.Sequential(DropAffine(0.3), LIF()), lambda: nn.Sequential(nn.Dropout(0.3), Affine(), LIF())
    ),
    "step-drop-act": Pair(lambda: StepDropAct(0.3), lambda: nn.Sequential(StepDropout(0.3), LIF())),
    "conv-act": Pair(lambda: ConvAct(4, 4), _conv_act),
    "group-act": Pair(lambda: GroupAct(4), lambda: nn.Sequential(nn.GroupNorm(2, 4), LIF())),
    "filter-response": Pair(
        lambda: FilterResponseAct(4), lambda: nn.Sequential(FilterResponseAct(4, nn.Identity), LIF())
    ),
}
"""Blocks that every rule for single steps can learn in."""
JOINT = Pair(lambda: JointAct(4), lambda: _norm_lif(JointBatchNorm2d))
NATIVE = Pair(lambda: NativeAct(4), _norm_lif)


def network(block: Callable[[], nn.Module], feedback: bool = False) -> nn.Sequential:
    """Two blocks between layers, in double precision; input `[2, 5, 5]`. Parameters depend on their order alone."""
    first, second, last = block(), block(), LIF()
    back = [nn.Conv2d(4, 4, 3, padding=1), Feedback(nn.Conv2d(4, 4, 1), last), last]
    middle = back if feedback else [nn.Conv2d(4, 4, 3, padding=1)]
    ends = nn.Flatten(), nn.Linear(100, 3)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), first, *middle, second, *ends).double()
    source = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=source, dtype=torch.float64)
        many = parameter.dim() > 1
        parameter.data = 2 * noise / parameter[0].numel() ** 0.5 if many else 0.7 + 0.2 * noise
    return net
