"""Networks with feedback, each as a module and as a step program (see `tests/oracles/programs.py`)."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers.feedback import Feedback
from spikewright.neurons import IF, LIF, Neuron
from tests.oracles.draw import CLASSES, draw
from tests.oracles.loops import UNITS
from tests.oracles.machine import Machine, Params
from tests.oracles.rate import AtRates

Backs = dict[str, tuple[int, int]]
"""Feedback connections by name: from the neurons of one layer to the current of another, counted from 1."""


def plain(params: Params) -> Params:
    """Parameters of a module by the names of its program."""
    return {re.sub(r"\.transform(\.0)?", "", name): value for name, value in params.items()}


def load(module: nn.Module, params: Params) -> nn.Module:
    """Give a module, in float64, the parameters of its program; thresholds stay."""
    with torch.no_grad():
        for name, parameter in plain(dict(module.double().named_parameters())).items():
            parameter.copy_(params.get(name, parameter))
    return module


def named(**parts: nn.Module) -> nn.Sequential:
    """A chain of modules; `n1` is called `1`, and `enter` is called `in`."""
    sequence = nn.Sequential()
    for name, module in parts.items():
        sequence.add_module("in" if name == "enter" else re.sub(r"^n(?=\d)", "", name), module)
    return sequence


def chain(x: Tensor, net: Machine, depth: int, backs: Backs, tau: float = math.inf) -> Tensor:
    """Layers `1` to `depth`, joined by `forth1` and so on, with feedback."""
    current = net.syn("in", x, post="1")
    for layer in range(1, depth + 1):
        for name, (source, target) in backs.items():
            sent = net.last(str(source)) if target == layer else None
            current = current if sent is None else current + net.syn(name, sent)
        s = net.lif(str(layer), current, tau)
        current = net.syn(f"forth{layer}" if layer < depth else "out", s)
    return current


def chained(depth: int, backs: Backs, neuron: Callable[[], Neuron] = IF) -> nn.Module:
    """The module of `chain`; with one feedback `back`, from its end to its start, that of `tests/oracles/loops.py`."""
    neurons = [neuron() for _ in range(depth)]
    parts: dict[str, nn.Module] = {"enter": nn.Linear(5, UNITS)}
    for layer in range(1, depth + 1):
        for name, (source, target) in backs.items():
            if target == layer:
                parts[name] = Feedback(nn.Linear(UNITS, UNITS), source=neurons[source - 1])
        parts[f"n{layer}"] = neurons[layer - 1]
        if layer < depth:
            parts[f"forth{layer}"] = nn.Linear(UNITS, UNITS)
    return named(**parts, out=nn.Linear(UNITS, CLASSES))


def up(x: Tensor, net: Machine, **conv: int) -> Tensor:
    """The transposed convolution `back`, which doubles the sides."""
    return F.conv_transpose2d(x, net.params["back.weight"], net.params["back.bias"], stride=2, **conv)


def shrinking(x: Tensor, net: Machine) -> Tensor:
    """Two convolutions of stride 2; feedback is a transposed one."""
    current, sent = net.syn("first", x, post="1", stride=2, padding=1), net.last("2")
    if sent is not None:
        current = current + up(sent, net, padding=1, output_padding=1)
    s = net.lif("1", current, math.inf)
    return net.syn("out", net.lif("2", net.syn("second", s, stride=2, padding=1), math.inf).flatten(1))


def shrinking_net() -> nn.Module:
    last = IF()
    return named(
        first=nn.Conv2d(2, 4, 3, stride=2, padding=1),
        back=Feedback(nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1), source=last),
        n1=IF(),
        second=nn.Conv2d(4, 4, 3, stride=2, padding=1),
        n2=last,
        flat=nn.Flatten(),
        out=nn.Linear(16, CLASSES),
    )


def pooled(x: Tensor, net: Machine) -> Tensor:
    """What is fed back is the pooled output of the neurons."""
    current, sent = net.syn("first", x, post="1", padding=1), net.last("1")
    if sent is not None:
        current = current + up(F.avg_pool2d(sent, 2), net)
    return net.syn("out", F.avg_pool2d(net.lif("1", current, math.inf), 2).flatten(1))


def pooled_net() -> nn.Module:
    return named(
        first=nn.Conv2d(2, 4, 3, padding=1),
        back=Feedback(nn.ConvTranspose2d(4, 4, 2, stride=2), source="pool"),
        n1=IF(),
        pool=nn.AvgPool2d(2),
        flat=nn.Flatten(),
        out=nn.Linear(36, CLASSES),
    )


def of_synapse(x: Tensor, net: Machine, source: str, tau: float = math.inf) -> Tensor:
    """What is fed back is the output of a synapse, bias and all: of the readout, or of one between neurons."""
    current, sent = net.syn("in", x, post="1"), net.last("2" if source == "out" else "1")
    if sent is not None:
        current = current + net.syn("back", net.syn(source, sent))
    s = net.lif("1", current, tau)
    return net.syn("out", net.lif("2", net.syn("forth", s), tau))


def of_synapse_net(source: str, first: Callable[[], Neuron] = IF, second: Callable[[], Neuron] = IF) -> nn.Module:
    return named(
        enter=nn.Linear(8, 12),
        back=Feedback(nn.Linear(CLASSES if source == "out" else 10, 12), source),
        n1=first(),
        forth=nn.Linear(12, 10),
        n2=second(),
        out=nn.Linear(10, CLASSES),
    )


def residual(x: Tensor, net: Machine) -> Tensor:
    """A block with an identity skip, fed back to the current of the stem."""
    current, sent = net.syn("stem", x, post="1", padding=1), net.last("3")
    if sent is not None:
        current = current + net.syn("back", sent, padding=1)
    skip = net.lif("1", current, math.inf)
    inner = net.lif("2", net.syn("conv1", skip, padding=1), math.inf)
    s = net.lif("3", skip + net.syn("conv2", inner, padding=1), math.inf)
    return net.syn("out", s.flatten(1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1, self.conv2 = (nn.Conv2d(channels, 3, 3, padding=1) for channels in (2, 3, 3))
        self.first, self.inner, self.last, self.out = IF(), IF(), IF(), nn.Linear(75, CLASSES)
        self.back = Feedback(nn.Conv2d(3, 3, 3, padding=1), source="last")

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(self.back(self.stem(x)))
        return self.out(self.last(skip + self.conv2(self.inner(self.conv1(skip)))).flatten(1))


def twice(x: Tensor, net: Machine) -> Tensor:
    """One neuron module at two places; what it emits at the second is fed back to the first."""
    current, sent = net.syn("fc1", x, post="1"), net.last("2")
    if sent is not None:
        current = current + net.syn("back", sent)
    return net.syn("out", net.lif("2", net.syn("fc2", net.lif("1", current, math.inf)), math.inf))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.out, self.neurons = nn.Linear(8, 9), nn.Linear(9, 9), nn.Linear(9, CLASSES), IF()
        self.back = Feedback(nn.Linear(9, 9), source=self.neurons)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.neurons(self.fc2(self.neurons(self.back(self.fc1(x))))))


def masked(x: Tensor, net: Machine, masks: Params) -> Tensor:
    """Dropout of every current, that of the feedback by itself."""
    current, sent = net.syn("in", x, post="1") * masks["drop1"], net.last("2")
    if sent is not None:
        current = current + net.syn("back", sent) * masks["back.transform.1"]
    current = net.syn("forth", net.lif("1", current, tau=4.0)) * masks["drop2"]
    return net.syn("out", net.lif("2", current, tau=4.0))


def masked_net() -> nn.Module:
    last = LIF(tau=4.0)
    return named(
        enter=nn.Linear(8, 12),
        drop1=nn.Dropout(0.3),
        back=Feedback(nn.Sequential(nn.Linear(10, 12), nn.Dropout(0.3)), source=last),
        n1=LIF(tau=4.0),
        forth=nn.Linear(12, 10),
        drop2=nn.Dropout(0.3),
        n2=last,
        out=nn.Linear(10, 4),
    )


def normed_net() -> nn.Module:
    last = IF()
    return named(
        enter=nn.Linear(8, 12, bias=False),
        norm1=nn.BatchNorm1d(12),
        back=Feedback(nn.Linear(10, 12), source=last),
        n1=IF(),
        forth=nn.Linear(12, 10, bias=False),
        norm2=nn.BatchNorm1d(10),
        n2=last,
        out=nn.Linear(10, 4),
    )


def normed(x: Tensor, net: Machine, statistics: Params, of_batch: bool) -> Tensor:
    """Simulated with running statistics; at rates with those of the batch, or not."""

    def norm(name: str, current: Tensor) -> Tensor:
        mean, variance = (statistics[f"{name}.running_{kind}"].clone() for kind in ("mean", "var"))
        scale, shift, batch = net.params[f"{name}.weight"], net.params[f"{name}.bias"], isinstance(net, AtRates)
        return F.batch_norm(current, mean, variance, scale, shift, training=of_batch and batch)

    current, sent = norm("norm1", net.syn("in", x, post="1")), net.last("2")
    s = net.lif("1", current if sent is None else current + net.syn("back", sent), math.inf)
    return net.syn("out", net.lif("2", norm("norm2", net.syn("forth", s)), math.inf))


def growing(x: Tensor, steps: int = 12) -> Tensor:
    """A sequence that grows from step to step."""
    return x * torch.linspace(0.5, 1.5, steps).view(-1, *[1] * x.dim())


@dataclass(frozen=True)
class Net:
    """A network, its program, and the shape of a sample."""

    build: Callable[..., nn.Module]
    program: Callable[..., Tensor]
    feature: tuple[int, ...] = (8,)

    def draw(self, seed: int, batch: int = 3) -> tuple[nn.Module, Params, Tensor, Tensor]:
        """The module, its parameters, an input `[batch, *feature]` and classes; feedback is weak."""
        module, source = self.build(), torch.Generator().manual_seed(seed)
        weights = {name: w for name, w in plain(dict(module.named_parameters())).items() if name.endswith("weight")}
        params = draw({name.removesuffix(".weight"): tuple(w.shape) for name, w in weights.items()}, seed)
        params = {name: p * 0.5 if name.endswith("weight") else p for name, p in params.items()}
        x = 1.5 * torch.rand(batch, *self.feature, generator=source, dtype=torch.float64)
        return load(module, params), params, x, torch.randint(CLASSES, (batch,), generator=source)


CHAINS: dict[str, tuple[int, Backs]] = {
    "one layer": (1, {"back": (1, 1)}),
    "three layers": (3, {"back": (3, 1)}),
    "middle on itself": (3, {"back": (2, 2)}),
    "nested": (4, {"back": (4, 1), "back2": (3, 2)}),
    "crossing": (4, {"back": (3, 1), "back2": (4, 2)}),
    "one source": (3, {"back": (3, 1), "back2": (3, 2)}),
    "one target": (3, {"back": (3, 1), "back2": (2, 1)}),
}
LOOPS = {
    **{name: Net(partial(chained, *of), partial(chain, depth=of[0], backs=of[1]), (5,)) for name, of in CHAINS.items()},
    "shrinking": Net(shrinking_net, shrinking, (2, 8, 8)),
    "pooled": Net(pooled_net, pooled, (2, 6, 6)),
    "of readout": Net(partial(of_synapse_net, "out"), partial(of_synapse, source="out")),
    "of synapse": Net(partial(of_synapse_net, "forth"), partial(of_synapse, source="forth")),
    "of synapse, leaky": Net(
        partial(of_synapse_net, "forth", *[partial(LIF, tau=4.0)] * 2), partial(of_synapse, source="forth", tau=4.0)
    ),
    "residual": Net(Residual, residual, (2, 5, 5)),
    "twice": Net(Twice, twice),
}
