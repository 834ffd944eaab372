"""A protected weight is protected at all of its uses, or refused: what a later task teaches moves none of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from spikewright.errors import IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, GPM, HLOP, OTTT, ContinualRule
from spikewright.rules.continual._projected import ProjectedRule
from tests.core.support import Lambda
from tests.rules.support import learn, loss_for
from tests.subspaces.wrapping import inputs

SIZE = 40


def layer(scale: float = 3.0, bias: bool = False) -> nn.Linear:
    made = nn.Linear(SIZE, SIZE, bias=bias)
    made.weight.data *= scale * 2
    return made


def network(forward: Callable[[Any, Tensor], Tensor], shared: str = "", **more: nn.Module) -> nn.Module:
    """Layers a, b, c and a readout, neurons n and m; `shared` names layers that have the weight of a."""
    torch.manual_seed(0)
    parts = {"a": layer(), "b": layer(), "c": layer(), "n": LIF(), "m": LIF(), "out": nn.Linear(SIZE, 4, bias=False)}
    module = Lambda(forward, **parts, **more)
    for name in shared:
        module.get_submodule(name).weight = parts["a"].weight
    return module


def patches(s: Any, x: Tensor) -> Tensor:
    """Three rows of every sample, one after the other in the batch."""
    rows = torch.stack([x, x.flip(1), x.roll(1, 1)], 1).flatten(0, 1)
    return s.out(s.m(s.b(s.n(s.a(rows)))).unflatten(0, (-1, 3)).sum(1))


USES: dict[str, Callable[[], nn.Module]] = {
    "one layer behind another": lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x)))))),
    "shared": lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x))))), "b"),
    "shared, the other order": lambda: network(lambda s, x: s.out(s.m(s.a(s.n(s.b(x))))), "b"),
    "called twice": lambda: network(lambda s, x: s.out(s.m(s.a(s.n(s.a(x)))))),
    "three owners": lambda: network(lambda s, x: s.out(s.m(s.c(s.n(s.b(x.flip(1)) + s.a(x))))), "bc"),
    "one owner twice": lambda: network(lambda s, x: s.out(s.m(s.b(s.n(s.b(x.flip(1)) + s.a(x))))), "b"),
    "rows of a sample": lambda: network(patches),
    "rows of a sample, shared": lambda: network(patches, "b"),
}
RULES = {"BPTT": BPTT, "OTTT": OTTT, "DSR": DSR}
AROUND: dict[str, Callable[..., ProjectedRule]] = {
    "GPM": partial(GPM, threshold=1 - 1e-12),
    "HLOP": partial(HLOP, rows=6, rate=0.1, iterations=4000, momentum=0.0),
}


def old_data(steps: int) -> tuple[Tensor, Tensor]:
    """Two samples in two directions."""
    return torch.rand(steps, 2, SIZE) * (torch.arange(SIZE) < 2), torch.tensor([0, 1])


def leak(around: ContinualRule, module: nn.Module, steps: int) -> float:
    """How much of the update of a second task lies along what arrived in the first, over all uses of all weights."""
    torch.manual_seed(1)
    x, y = old_data(steps)
    arrived = inputs(module, x)
    learn(around, module, x, y)
    around.next_task(Network(module), x, y, loss_for(around))
    around.freeze(Network(module))
    module.zero_grad()
    learn(around, module, torch.rand(steps, 5, SIZE), torch.randint(0, 4, (5,)))
    found = 0.0
    for site, old in arrived.items():
        grad = module.get_submodule(site.partition("#")[0]).weight.grad
        assert grad is not None
        rows = old.flatten(0, 1).unflatten(0, (steps, -1)).mean(0)
        if rows.any() and grad.norm() > 1e-8:
            found = max(found, float((rows @ grad.T).norm() / rows.norm() / grad.norm()))
    assert module.get_submodule("a").weight.grad.norm() > 1e-4  # type: ignore[union-attr]
    return found


@pytest.fixture(autouse=True)
def in_float64(float64: None) -> None:
    """Equalities are asked to the last digits."""


@pytest.mark.parametrize("uses", USES)
@pytest.mark.parametrize("form", ["inputs", "gradient"])
@pytest.mark.parametrize("rule", RULES)
def test_nothing_moves_along_what_arrived_at_any_use(rule: str, form: str, uses: str) -> None:
    around = AROUND["GPM"](RULES[rule](), project=form)
    assert leak(around, USES[uses](), steps=3) < 1e-6


@pytest.mark.parametrize("uses", USES)
@pytest.mark.long
def test_lateral_weights_learn_from_all_uses(uses: str) -> None:
    assert leak(AROUND["HLOP"](BPTT()), USES[uses](), steps=1) < 0.05


def read_by_entries(s: Any, x: Tensor) -> Tensor:
    return s.m(s.b(s.n(s.a(x))))[:, :4] * s.a.weight[0, :4]


class Tied(nn.Module):
    """Computes a weight from that of another layer, which it does not own."""

    def __init__(self, other: nn.Linear) -> None:
        super().__init__()
        self.other = [other]

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.other[0].weight.t()


class Borrowing(nn.Linear):
    """Uses the weight of another layer in the place of its own."""

    def __init__(self, other: nn.Linear, turned: bool) -> None:
        super().__init__(SIZE, SIZE, bias=False)
        self.other, self.turned = [other], turned

    def forward(self, input: Tensor) -> Tensor:
        weight = self.other[0].weight
        return F.linear(input, weight.t() if self.turned else weight, self.weight.sum(1))


def embedding() -> tuple[nn.Module, Tensor]:
    """Symbols that are embedded by the weight of the readout."""
    readout, table = nn.Linear(SIZE, 4, bias=False), nn.Embedding(4, SIZE)
    module = Lambda(lambda s, x: s.out(s.n(s.a(s.table(x[:, 0])))), out=readout, a=layer(), n=LIF(), table=table)
    table.weight = readout.weight
    return module, torch.randint(0, 4, (3, 2, 1))


def real(forward: Callable[[Any, Tensor], Tensor], shared: str = "", **more: nn.Module) -> tuple[nn.Module, Tensor]:
    return network(forward, shared, **more), old_data(3)[0]


OUTSIDE: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "beside its layer": lambda: real(lambda s, x: s.out(s.n(s.a(x) + F.linear(x.flip(1), s.a.weight)))),
    "turned, in the readout": lambda: real(lambda s, x: F.linear(s.m(s.b(s.n(s.a(x)))), s.a.weight.t())[:, :4]),
    "in a product of matrices": lambda: real(lambda s, x: s.out(s.n(s.a(x) + x @ s.a.weight))),
    "by entries, in the readout": lambda: real(read_by_entries),
    "beside a shared one": lambda: real(lambda s, x: s.out(s.n(s.a(x) + s.b(x) + x @ s.a.weight)), "b"),
    "embedded": embedding,
}


@pytest.mark.parametrize("case", OUTSIDE)
@pytest.mark.parametrize("kind", AROUND)
def test_a_weight_that_is_used_outside_of_layers_is_refused(kind: str, case: str) -> None:
    module, x = OUTSIDE[case]()
    name = "out" if case == "embedded" else "a"
    around = AROUND[kind](BPTT())
    with pytest.raises(IncompatibleRule, match=rf"{kind} keeps '{name}.weight'.*outside.*free=\('{name}',"):
        learn(around, module, x, torch.tensor([0, 1]))
    with pytest.raises(IncompatibleRule, match=f"'{name}.weight'"):
        around.prepare(Network(module), x)
    shared = ("b",) if "shared" in case else ()
    learn(AROUND[kind](BPTT(), free=(name, *shared)), module, x, torch.tensor([0, 1]))
    module.get_parameter(f"{name}.weight").requires_grad_(False)
    learn(AROUND[kind](BPTT()), module, x, torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", AROUND)
def test_layers_that_share_a_weight_are_free_together(kind: str) -> None:
    module, x = USES["shared"](), old_data(3)[0]
    for free in ("a", "b"):
        with pytest.raises(IncompatibleRule, match=f"'a.weight'.*but '{free}', which shares it, is free"):
            learn(AROUND[kind](BPTT(), free=(free,)), module, x, torch.tensor([0, 1]))
    around = AROUND[kind](BPTT(), free=("a", "b"))
    learn(around, module, x, torch.tensor([0, 1]))
    assert list(around.subspaces.by_name()) == ["out"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", AROUND)
@pytest.mark.parametrize("case", ["parametrization", "borrowed", "borrowed, turned"])
def test_a_free_layer_that_computes_its_weight_from_a_protected_one(case: str, kind: str, rule: str) -> None:
    module, x = network(lambda s, x: s.out(s.m(s.b(s.n(s.a(x)))))), old_data(3)[0]
    first: Any = module.get_submodule("a")
    if case == "parametrization":
        parametrize.register_parametrization(module.get_submodule("b"), "weight", Tied(first))
    else:
        module.add_module("b", Borrowing(first, "turned" in case))
    y = torch.tensor([0, 1])
    with pytest.raises(IncompatibleRule, match=r"'b' is not protected, but its weight .*of 'a'.*free=\('a', ...\)"):
        learn(AROUND[kind](RULES[rule](), free=("b",)), module, x, y)
    learn(AROUND[kind](RULES[rule](), free=("a", "b")), module, x, y)


@pytest.mark.parametrize("kind", AROUND)
def test_the_weight_of_a_layer_that_is_never_called_is_held_still(kind: str) -> None:
    module, (x, y) = network(lambda s, x: s.out(s.n(s.b(x) + x @ s.a.weight))), old_data(3)
    around, net = AROUND[kind](BPTT()), Network(module, known=("a.weight",))
    loss = loss_for(around)
    list(around.updates(net, x, y, loss))
    around.next_task(net, x, y, loss)
    with pytest.raises(IncompatibleRule, match=r"'a.weight' may change.*rule.freeze\(net\)"):
        list(around.updates(net, x, y, loss))
    around.freeze(net)
    module.zero_grad()
    list(around.updates(net, x, y, loss))
    assert module.get_parameter("a.weight").grad is None
    assert module.get_parameter("b.weight").grad is not None
