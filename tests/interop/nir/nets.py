"""Networks that can be written to NIR, each with an input on which all of their neurons fire."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import spikewright as sw

Made = tuple[nn.Module, Tensor]


def loud(net: nn.Module, factor: float = 3.0) -> nn.Module:
    """Multiply weights, so that all neurons fire."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(factor)
    return net


def lif(tau: float | list[float] = 4.0, **more: Any) -> sw.LIF:
    return sw.LIF(tau, reset="zero", **more)


def count_if(**more: Any) -> sw.IF:
    return sw.IF(reset="zero", **more)


def mlp() -> Made:
    net = nn.Sequential(nn.Linear(6, 16), lif(5.0), nn.Linear(16, 8, bias=False), lif(3.0, gain=1 / 3), nn.Linear(8, 3))
    return loud(net), 4 * torch.randn(30, 4, 6)


def integrators() -> Made:
    net = nn.Sequential(nn.Linear(6, 16), count_if(threshold=1.5), nn.Linear(16, 9), count_if(gain=0.5))
    return loud(net, 9), 2 * torch.randn(30, 4, 6)


def by_channel() -> Made:
    net = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), lif([2.0, 5.0, 9.0]), nn.Flatten(), nn.Linear(24, 4), lif())
    return loud(net), 3 * torch.randn(30, 4, 2, 8)


def convolutions() -> Made:
    net = nn.Sequential(
        nn.Conv2d(2, 4, (3, 5), stride=(1, 2), padding=(1, 2), groups=2, bias=False),
        nn.BatchNorm2d(4),
        lif(5.0),
        nn.Conv2d(4, 6, (2, 3), padding="same", dilation=(2, 1)),
        count_if(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 4 * 2, 5),
        lif(2.0),
    )
    net[1].running_mean, net[1].running_var = torch.randn(4), 0.1 + torch.rand(4)
    return loud(net).eval(), 3 * torch.randn(20, 3, 2, 9, 10)


class Residual(nn.Module):
    """Sums, products, reshaping and pooling written in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.last = nn.Linear(16, 6), nn.Linear(6, 6)
        self.a, self.b, self.c = lif(3.0), lif(3.0), count_if()
        self.register_buffer("factors", torch.tensor([0.5, 1.0, 1.5, 2.0]).view(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(self.first(x))
        k = self.b(self.second(h) - 0.5 * h + h) * self.factors
        k = F.adaptive_avg_pool2d(k + k, 2).view(len(x), -1)
        h = self.third(k)
        h += self.last(h)
        return self.c(h) / 2


def residual() -> Made:
    return loud(Residual(), 2), 3 * torch.randn(20, 3, 2, 4, 4)


class Recurrent(nn.Module):
    """A loop over one layer, or over both; `where` names the neurons that send back."""

    def __init__(self, where: str, bias: bool = False) -> None:
        super().__init__()
        self.a, self.b = lif(4.0), lif(3.0)
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 6)
        size = {"a": 8, "b": 6}[where]
        self.back = sw.Feedback(nn.Linear(size, 8, bias=bias), source=getattr(self, where))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.second(self.a(self.back(self.first(x)))))


def recurrent(where: str = "a", bias: bool = False) -> Made:
    return loud(Recurrent(where, bias), 2), 3 * torch.randn(30, 4, 5)


def delayed() -> Made:
    start = torch.tensor([0.2, 1.0, 2.0, 3.0, 3.9, 1.0])
    net = nn.Sequential(nn.Linear(5, 6), lif(), sw.SynapticDelay(6, 4, start), nn.Linear(6, 6), lif())
    return loud(net, 1.5), 4 * torch.randn(30, 4, 5)


def delayed_loop() -> Made:
    neuron = lif()
    back = nn.Sequential(sw.SynapticDelay(6, 4, 2.0), nn.Linear(6, 6, bias=False))
    return loud(nn.Sequential(nn.Linear(5, 6), sw.Feedback(back, neuron), neuron), 1), 4 * torch.randn(30, 4, 5)


def drawn_norms(net: nn.Module) -> nn.Module:
    """Draw the constants of batch norm."""
    for norm in net.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean, norm.running_var = (
                torch.randn(norm.num_features) / 4,
                0.1 + torch.rand(norm.num_features),
            )
            with torch.no_grad():
                norm.bias.copy_(torch.randn(norm.num_features) / 4)
    return net.eval()


class Preactivation(nn.Module):
    """Batch norm behind a sum, behind neurons and behind the input: no weight is in front of it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = sw.layers.JointBatchNorm2d(2), nn.BatchNorm2d(4)
        self.third, self.last = nn.BatchNorm1d(36), nn.Linear(36, 5)
        self.enter, self.layer = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.a, self.b, self.c = lif(), lif(), count_if()

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(self.a(self.first(x)))
        h = h + self.layer(self.b(self.second(h)))
        return self.c(self.last(self.third(F.avg_pool2d(h, 2).flatten(1))))


def preactivation() -> Made:
    return drawn_norms(loud(Preactivation())), 4 * torch.randn(20, 3, 2, 6, 6)


class Twice(nn.Module):
    """One layer and one neuron module, called twice: two groups of neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.neuron = nn.Linear(6, 6), lif()

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.layer(self.neuron(self.layer(x))))


def twice() -> Made:
    return loud(Twice(), 2), 4 * torch.randn(30, 4, 6)


def parametrized() -> Made:
    layer = parametrizations.weight_norm(nn.Linear(6, 8))
    net = nn.Sequential(layer, lif(), nn.Dropout(0.5), sw.layers.Scale(3.0), sw.layers.ScaledWSLinear(8, 5), lif())
    return net.eval(), 4 * torch.randn(30, 4, 6)


def cuba(tau: float | list[float] = 5.0, tau_syn: float | list[float] = 3.0, **more: Any) -> sw.CUBALIF:
    return sw.CUBALIF(tau, tau_syn, reset="zero", **more)


def currents() -> Made:
    """Constants away from their defaults, one for each channel; the last neurons are behind spikes."""
    each = {"threshold": [0.5, 1.0, 2.0], "gain": [0.5, 0.7, 1.5], "current_gain": [2.0, 1.0, 0.3]}
    first = cuba([2.0, 5.0, 9.0], [4.0, 1.5, 3.0], **each)
    net = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), first, cuba(3.0, 6.0, gain=0.7, current_gain=1.2))
    return loud(net, 1), 3 * torch.randn(30, 4, 2, 8)


def constants_of_their_own() -> Made:
    """A threshold and a factor for each neuron, in layers with more axes than channels and with fewer."""
    each = torch.linspace(0.5, 2, 24)
    first = lif(4.0, threshold=each.view(3, 8), gain=1 / each.view(3, 8))
    second = count_if(threshold=each[:6].tolist(), gain=[1.0, 0.5, 0.25, 2.0, 1.0, 0.3])
    net = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), first, nn.Flatten(), nn.Linear(24, 6), second)
    return loud(net), 3 * torch.randn(30, 4, 2, 8)


def strict() -> Made:
    """Potentials of quarters, which meet the thresholds."""
    net = nn.Sequential(nn.Linear(4, 16), lif(2.0, strict=True), nn.Linear(16, 8), count_if(strict=True))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((8 * parameter).round() / 4)
    return net, torch.randint(-2, 6, (60, 20, 4)) / 4


def trained() -> Made:
    """Constants that are parameters."""
    first = sw.LIF(4.0, reset="zero", gain="1/tau", learn_tau=True, learn_threshold=True)
    second = cuba(4.0, 2.0, learn_tau=True, learn_tau_syn=True, learn_gain=True)
    return nn.Sequential(loud(nn.Linear(6, 16)), first, loud(nn.Linear(16, 8)), second), 6 * torch.randn(30, 4, 6)


def readout(last: Callable[[], nn.Module]) -> Callable[[], Made]:
    return lambda: (loud(nn.Sequential(nn.Linear(6, 16), cuba(), nn.Linear(16, 3), last())), 4 * torch.randn(30, 4, 6))


NETS: dict[str, Callable[[], Made]] = {
    "currents": currents,
    "constants_of_their_own": constants_of_their_own,
    "strict": strict,
    "trained": trained,
    "LI": readout(lambda: sw.LI(5.0, gain=[0.5, 1.0, 2.0])),
    "LI_by_channel": readout(lambda: sw.LI([2.0, 5.0, 9.0], gain="1/tau")),
    "I": readout(lambda: sw.LI(None, gain=0.3)),
    "CubaLI": readout(lambda: sw.LI([2.0, 5.0, 9.0], tau_syn=3.0, gain=0.7, current_gain=1.2)),
    "potentials": lambda: (loud(nn.Sequential(nn.Linear(6, 8), sw.LI(3.0), lif(4.0))), 4 * torch.randn(30, 4, 6)),
    "AlphaLIF": lambda: (loud(nn.Sequential(nn.Linear(6, 8), sw.AlphaLIF())), 4 * torch.randn(30, 4, 6)),
    "mlp": mlp,
    "integrators": integrators,
    "by_channel": by_channel,
    "convolutions": convolutions,
    "residual": residual,
    "preactivation": preactivation,
    "recurrent": recurrent,
    "recurrent_over_both": lambda: recurrent("b"),
    "recurrent_with_bias": lambda: recurrent("a", bias=True),
    "delayed": delayed,
    "delayed_loop": delayed_loop,
    "twice": twice,
    "parametrized": parametrized,
}
