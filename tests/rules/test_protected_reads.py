"""A protected weight whose values are read outside of its layer is refused, gradients or not."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrize

from spikewright.errors import IncompatibleRule
from spikewright.layers.weight_standardization import ScaledWSLinear
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, GPM, HLOP
from spikewright.rules.continual._projected import ProjectedRule
from tests.core.support import Lambda
from tests.rules.support import learn, loss_for

SIZE = 12
AROUND: dict[str, Callable[..., ProjectedRule]] = {"GPM": partial(GPM, threshold=1.0), "HLOP": partial(HLOP, rows=3)}


def network(more: Callable[[Any, Tensor], Any], **parts: nn.Module) -> nn.Module:
    """Layers a, b and a readout; what `more` computes is added to the current of a."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"a": nn.Linear(SIZE, SIZE), "b": nn.Linear(SIZE, SIZE), "out": nn.Linear(SIZE, 4)}
    return Lambda(lambda s, x: s.out(s.m(s.b(s.n(s.a(x) + more(s, x))))), n=LIF(), m=LIF(), **{**layers, **parts})


def data() -> tuple[Tensor, Tensor]:
    return torch.rand(3, 2, SIZE), torch.tensor([0, 1])


def without_a_graph(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return F.linear(x, s.a.weight)


def in_an_array(s: Any, x: Tensor) -> Tensor:
    return x * torch.from_numpy(np.ascontiguousarray(s.a.weight.detach().numpy()[0]))


def written_elsewhere(s: Any, x: Tensor) -> Tensor:
    return F.linear(x, torch.empty(SIZE, SIZE).copy_(s.a.weight.detach()))


def in_another_tensor(s: Any, x: Tensor) -> Tensor:
    other = torch.zeros(0)
    other.data = s.a.weight.data
    return F.linear(x, other)


def seen_by_a_layer(s: Any, x: Tensor) -> Tensor:
    return s.b(s.a.weight.detach()[:1].expand(len(x), -1))


READS: dict[str, Callable[[Any, Tensor], Any]] = {
    "detached": lambda s, x: F.linear(x.flip(1), s.a.weight.detach()),
    "turned": lambda s, x: F.linear(x.flip(1), s.a.weight.detach().t()),
    "a part": lambda s, x: x * s.a.weight.detach()[3],
    "data": lambda s, x: F.linear(x.flip(1), s.a.weight.data),
    "no_grad": without_a_graph,
    "a copy of the layer": lambda s, x: deepcopy(s.a)(x.flip(1)),
    "a copy of the weight": lambda s, x: F.linear(x, deepcopy(s.a.weight).detach()),
    "an array": in_an_array,
    "a list": lambda s, x: x * torch.tensor(s.a.weight[0].tolist()),
    "a tensor of entries": lambda s, x: x * torch.tensor([s.a.weight.detach()[0, 0], 1.0]).sum(),
    "a number": lambda s, x: x * s.a.weight.abs().mean().item(),
    "an entry": lambda s, x: x * float(s.a.weight.detach()[0, 0]),
    "a norm": lambda s, x: x * s.a.weight.detach().norm(),
    "a choice": lambda s, x: x if s.a.weight.max() > 0 else 2 * x,
    "written elsewhere": written_elsewhere,
    "in another tensor": in_another_tensor,
    "an input of another layer": seen_by_a_layer,
    "mapped": lambda s, x: torch.vmap(lambda row: s.a.weight.detach() @ row)(x),
    "its layer, without a graph": torch.no_grad()(lambda s, x: s.a(x.flip(1))),
}
HARMLESS: dict[str, Callable[[Any, Tensor], Any]] = {
    "nothing": lambda s, x: 0,
    "its shape": lambda s, x: x * s.a.weight.detach().t().shape[0] / SIZE,
    "its type": lambda s, x: x.to(s.a.weight.dtype) * torch.zeros_like(s.a.weight)[0],
    "called again": lambda s, x: s.a(x.flip(1)),
    "another weight": lambda s, x: F.linear(x, s.b.weight.detach()),
}


class Computing(nn.Linear):
    """Computes something from its own weight in front of its operation, behind it, or for it."""

    def __init__(self, way: str) -> None:
        super().__init__(SIZE, SIZE)
        self.way = way

    def forward(self, input: Tensor) -> Tensor:
        if self.way == "in front":
            return F.linear(input * self.weight.detach().norm(), self.weight, self.bias)
        if self.way == "behind":
            return F.linear(input, self.weight, self.bias) * self.weight.detach().norm()
        weight = self.weight / self.weight.detach().norm() if self.way == "for it" else self.weight
        return F.linear(input, weight, self.bias)


class Second(nn.Module):
    """Has a parameter of its own in the memory of another one."""

    def __init__(self, weight: Tensor, part: slice) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.data[part])

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.linear(x, self.weight.detach()), (0, SIZE - len(self.weight)))


class Plus(nn.Module):
    """A parametrization that adds what another layer's weight is."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.other = [other]

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.other[0].weight.detach()


def refused(kind: str, module: nn.Module, name: str = "a", **arguments: Any) -> None:
    with pytest.raises(IncompatibleRule, match=rf"{kind} keeps '{name}.weight'.*outside.*free=\('{name}',"):
        learn(AROUND[kind](BPTT(), **arguments), module, *data())


@pytest.mark.parametrize("case", READS)
@pytest.mark.parametrize("kind", AROUND)
def test_reads_of_values_are_refused(kind: str, case: str) -> None:
    module = network(READS[case])
    refused(kind, module)
    learn(AROUND[kind](BPTT(), free=("a",)), module, *data())
    module.get_parameter("a.weight").requires_grad_(False)
    learn(AROUND[kind](BPTT()), module, *data())


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("kind", AROUND)
def test_what_reads_no_values_is_not(kind: str, case: str) -> None:
    learn(AROUND[kind](BPTT(), free=("b",)), network(HARMLESS[case]), *data())


@pytest.mark.parametrize("way", ["in front", "behind", "for it", "plainly"])
def test_what_a_layer_does_with_its_own_weight(way: str) -> None:
    module = network(lambda s, x: 0, a=Computing(way))
    if way in ("in front", "behind"):
        refused("GPM", module)
    elif way == "for it":
        with pytest.raises(IncompatibleRule, match="'a' computes its weight"):
            learn(AROUND["GPM"](BPTT()), module, *data())
    else:
        learn(AROUND["GPM"](BPTT()), module, *data())
    assert Network(module).wiring(data()[0]).read_outside == ({"a.weight"} if way in ("in front", "behind") else set())


@pytest.mark.parametrize("kind", AROUND)
def test_layers_that_standardise_their_weights_read_them_themselves(kind: str) -> None:
    module = network(lambda s, x: 0, b=ScaledWSLinear(SIZE, SIZE))
    assert not Network(module).wiring(data()[0]).read_outside
    learn(AROUND[kind](BPTT(), free=("b",)), module, *data())
    module.get_submodule("b").requires_grad_(False)
    learn(AROUND[kind](BPTT()), module, *data())
    refused(kind, network(lambda s, x: F.linear(x, s.b.weight.detach()), b=ScaledWSLinear(SIZE, SIZE)), "b")
    refused(kind, network(lambda s, x: F.linear(x, s.b.effective_weight().detach()), b=ScaledWSLinear(SIZE, SIZE)), "b")


def test_parameters_in_the_same_memory() -> None:
    whole = nn.Linear(SIZE, SIZE)
    refused("GPM", network(lambda s, x: s.second(x), a=whole, second=Second(whole.weight, slice(0, None))))
    refused("GPM", network(lambda s, x: s.second(x), a=whole, second=Second(whole.weight, slice(2, 5))))
    other = nn.Linear(SIZE, SIZE)
    other.weight = nn.Parameter(whole.weight.data)
    refused("GPM", network(lambda s, x: s.other(x), a=whole, other=other), free=("other",))
    both = torch.randn(2 * SIZE, SIZE)  # parameters that lie beside each other
    one, two = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE)
    one.weight, two.weight = nn.Parameter(both[:SIZE]), nn.Parameter(both[SIZE:])
    learn(AROUND["GPM"](BPTT()), network(lambda s, x: F.linear(s.two(x), s.free.weight.detach()), a=one, two=two,
                                         free=nn.Linear(SIZE, SIZE)), *data())  # fmt: skip


def test_a_weight_that_is_given_to_another_layer() -> None:
    module = network(lambda s, x: functional_call(s.b, {"weight": s.a.weight.detach()}, (x,)))
    refused("GPM", module, free=("b",))
    learn(AROUND["GPM"](BPTT(), free=("a", "b")), module, *data())


def test_a_weight_that_is_computed_from_a_protected_one() -> None:
    module = network(lambda s, x: 0)
    first: Any = module.get_submodule("a")
    parametrize.register_parametrization(module.get_submodule("b"), "weight", Plus(first))
    refused("GPM", module, free=("b",))
    learn(AROUND["GPM"](BPTT(), free=("a", "b")), module, *data())


@pytest.mark.parametrize("kind", AROUND)
def test_what_is_done_with_weights_between_runs_is_nobodys_use(kind: str) -> None:
    module, (x, y) = network(lambda s, x: 0), data()
    around, net = AROUND[kind](BPTT()), Network(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        for _ in around.updates(net, x, y, loss_for(around)):
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                module.get_parameter("a.weight").mul_(0.99).clamp_(-1.0, 1.0)
            assert module.get_parameter("a.weight").detach().norm() > 0
    assert not net.wiring(x).read_outside


def test_a_weight_that_no_gradient_reaches_may_be_read() -> None:
    still = torch.no_grad()(lambda s, x: s.c(x) + F.linear(x, s.c.weight))
    learn(AROUND["HLOP"](BPTT()), network(still, c=nn.Linear(SIZE, SIZE)), *data())
