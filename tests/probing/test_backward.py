"""No claim is made of a gradient that passes code of somebody's in the backward pass."""

import io
import pickle
import threading
from collections import UserDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import Certificate, certify
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.core.support import CE, Lambda, promised, two_layers
from tests.nets import sample

RULES = [OTTT(), SLTT(), BPTT(chunk=2), BPTT(checkpoint=True)]


class Clamped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clamp(-1e-3, 1e-3)


class Gated(torch.autograd.Function):
    """Lets gradients through by a factor of the data, which the forward does not have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * grads[0] * (x > 0)


class OverRows(torch.autograd.Function):
    """Divides gradients by their norm, over all rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] / (grads[0].norm() + 1e-3)


def clipped(grad: Tensor) -> Tensor:
    return grad.clamp(-1e-3, 1e-3)


def hooked(x: Tensor) -> Tensor:
    x = x * 1
    if x.requires_grad:
        x.register_hook(clipped)
    return x


def halved(x: Tensor) -> Tensor:
    """Saves what the backward pass needs in half precision."""
    with saved_tensors_hooks(lambda t: (t.half(), t.dtype), lambda pair: pair[0].to(pair[1])):
        return 2 * x + x.mean(1, keepdim=True)


def own(kind: type[torch.autograd.Function]) -> nn.Module:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        y: Any = kind.apply(x)
        return y

    return Lambda(forward)


def by_hook(put: Callable[[nn.Module], object]) -> nn.Module:
    module = nn.Identity()
    put(module)
    return module


def scaled(module: nn.Module, grads: Any, *more: Any) -> Any:
    return tuple(None if g is None else g.clamp(-1e-3, 1e-3) for g in (more[0] if more else grads))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "clamped": lambda: own(Clamped),
    "gated": lambda: own(Gated),
    "over rows": lambda: own(OverRows),
    "full backward hook": lambda: by_hook(
        lambda m: m.register_full_backward_hook(lambda m, into, out: (into[0].clamp(-1e-3, 1e-3),))
    ),
    "full backward pre hook": lambda: by_hook(
        lambda m: m.register_full_backward_pre_hook(lambda m, out: (out[0].clamp(-1e-3, 1e-3),))
    ),
    "hook of a tensor": lambda: Lambda(lambda m, x: hooked(x)),
    "saved in half": lambda: Lambda(lambda m, x: halved(x)),
}


def check(module: nn.Module, rule: Rule) -> Certificate:
    torch.manual_seed(0)
    found = certify(Network(module), rule, *sample("mlp", 0), CE)
    assert found.ok, found.table()
    return found


@pytest.mark.parametrize("rule", RULES[:3], ids=repr)
@pytest.mark.parametrize("place", [3, 5])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, place: int, rule: Rule) -> None:
    module = two_layers()
    module.insert(place, LAYERS[name]())
    found = check(module, rule)
    names = [n for n, _ in module.named_parameters()]
    in_front = {n for n in names if int(n.split(".")[0]) < place}
    assert in_front and not promised(found) & in_front
    if name != "saved in half":
        assert {"5.weight", "5.bias"} <= promised(found) or place == 5


@pytest.mark.parametrize("rule", RULES[:3], ids=repr)
def test_what_is_behind_a_function_of_ones_own_is_claimed(rule: Rule) -> None:
    module = two_layers()
    module.insert(1, own(Clamped))
    assert {"5.weight", "5.bias"} <= promised(check(module, rule))


class Rounded(torch.autograd.Function):
    """A weight of few bits, learned straight through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Quantised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        weight: Any = Rounded.apply(self.weight)
        return nn.functional.linear(x, weight, self.bias)


def test_a_quantised_weight_costs_its_own_claim_only() -> None:
    module = two_layers()
    given = module[2]
    module[2] = Quantised(given.in_features, given.out_features).double()
    found = promised(check(module, OTTT()))
    assert "2.weight" not in found and {"2.bias", "4.weight"} <= found


def clip_grad(parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.clamp_(-1e-3, 1e-3)


HOOKS: dict[str, Callable[[nn.Parameter], object]] = {
    "gradient": lambda p: p.register_hook(lambda g: g / (g.norm() + 1e-3)),
    "accumulated": lambda p: p.register_post_accumulate_grad_hook(clip_grad),
}


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_parameters(name: str, rule: Rule) -> None:
    module = two_layers()
    before = promised(check(module, rule))
    HOOKS[name](module[4].weight)
    assert promised(check(module, rule)) == before - {"4.weight"}


def test_a_run_through_time_folds_the_steps() -> None:
    module = two_layers()
    module.insert(3, own(OverRows))
    assert {"0.weight", "2.weight"}.isdisjoint(promised(check(module, BPTT())))
    assert "5.weight" in promised(check(module, BPTT()))


def test_hooks_around_the_whole() -> None:
    net, given = Network(two_layers()), sample("mlp", 0)
    assert promised(certify(net, OTTT(), *given, CE))
    with saved_tensors_hooks(lambda t: (t.to(torch.float32), t.dtype), lambda pair: pair[0].to(pair[1])):
        found = certify(net, OTTT(), *given, CE)
    assert found.ok and not promised(found)
    with torch.autograd.graph.save_on_cpu():
        assert promised(certify(net, OTTT(), *given, CE))


# --- what changes after the first run


def test_hooks_and_flags_that_change_later() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.on = False

        def forward(self, x: Tensor) -> Tensor:
            return x * (x.detach().mean(1, keepdim=True) > 0) if self.on else 2 * x

    module = two_layers()
    module.insert(3, Gate())
    net, given = Network(module), sample("mlp", 0)
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    gate: Any = module[3]
    gate.on = True
    found = certify(net, OTTT(), *given, CE)
    assert found.ok and "2.weight" not in promised(found)
    gate.on = False
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    handle = gate.register_forward_hook(lambda m, into, out: out * (out > 0))
    assert "2.weight" not in promised(certify(net, OTTT(), *given, CE))
    handle.remove()
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    handle = module[5].weight.register_hook(clipped)
    assert "5.weight" not in promised(certify(net, OTTT(), *given, CE))
    handle.remove()
    gate.forward = lambda x: torch.relu(x)
    assert "2.weight" not in promised(certify(net, OTTT(), *given, CE))


@dataclass(slots=True)
class Slots:
    on: bool = False


class Configured(nn.Module):
    """A gate that is turned on somewhere in what the module holds."""

    of_class = False

    def __init__(self) -> None:
        super().__init__()
        self.dict, self.user, self.list = {"deep": {"on": False}}, UserDict({"on": False}), list[object]()
        self.slots, self.space = Slots(), SimpleNamespace(on=False)
        self.register_buffer("mask", None)

    def forward(self, x: Tensor) -> Tensor:
        flags = self.dict["deep"]["on"], self.user["on"], self.list, self.slots.on, self.space.on, self.of_class
        return x * (x.detach().mean(1, keepdim=True) > 0) if any(flags) or self.mask is not None else 2 * x


TURNS: dict[str, Callable[[Any], object]] = {
    "dictionary": lambda gate: gate.dict["deep"].update(on=True),
    "user dictionary": lambda gate: gate.user.update(on=True),
    "list": lambda gate: gate.list.append(torch.relu),
    "slots": lambda gate: setattr(gate.slots, "on", True),
    "namespace": lambda gate: setattr(gate.space, "on", True),
    "buffer": lambda gate: setattr(gate, "mask", torch.ones(1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_what_is_turned_on_inside_of_something(name: str) -> None:
    module = two_layers()
    module.insert(3, Configured())
    net, given = Network(module), sample("mlp", 0)
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    TURNS[name](module[3])
    found = certify(net, OTTT(), *given, CE)
    assert found.ok and "2.weight" not in promised(found)


def test_an_attribute_of_the_class_and_a_hook_on_all_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = two_layers()
    module.insert(3, Configured())
    net, given = Network(module), sample("mlp", 0)
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    with monkeypatch.context() as patch:
        patch.setattr(Configured, "of_class", True)
        assert "2.weight" not in promised(certify(net, OTTT(), *given, CE))
    assert "2.weight" in promised(certify(net, OTTT(), *given, CE))
    handle = nn.modules.module.register_module_forward_hook(lambda m, into, out: None)
    try:
        assert "2.weight" not in promised(certify(net, OTTT(), *given, CE))
    finally:
        handle.remove()


@pytest.mark.long
def test_what_changes_before_every_run_is_told() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    net, (x, _) = Network(nn.Sequential(Scaled(), *two_layers())), sample("mlp", 0)
    scaled: Any = net.module[0]  # type: ignore[index]
    for k in range(20):
        scaled.scale = 1.0 + k
        net.run(x)
    scaled.scale = 0.5
    with pytest.warns(UserWarning, match=r"looked at anew, in three passes, because '0\.scale' is not what it was"):
        net.run(x)
    scaled.scale = 0.25
    net.run(x)  # said once
    quiet = Network(net.module, known=["0.scale"])
    for k in range(25):
        scaled.scale = 1.0 + k
        quiet.run(x)


def test_a_network_with_hooks_is_copied_and_saved() -> None:
    net, given = Network(two_layers()), sample("mlp", 0)
    net.module[4].weight.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))  # type: ignore[index, union-attr]
    assert "4.weight" not in promised(certify(net, OTTT(), *given, CE))
    for copied in (deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert "4.weight" in promised(certify(copied, OTTT(), *given, CE))


# --- ways past the dispatcher


def pickled(x: Tensor) -> Tensor:
    return pickle.loads(pickle.dumps(x))


def saved(x: Tensor) -> Tensor:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    return torch.load(file)


def in_thread(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        found: list[Tensor] = []
        thread = threading.Thread(target=lambda: found.append(function(x)))
        thread.start()
        thread.join()
        return found[0]

    return run


PAST: dict[str, Callable[[Tensor], Tensor]] = {
    "numpy": lambda x: x * torch.from_numpy(x.detach().numpy() > 0),
    "dlpack": lambda x: x * (torch.from_dlpack(x.detach()) > 0),
    "dlpack capsule": lambda x: x * (torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x.detach())) > 0),
    "deepcopy": lambda x: x * (deepcopy(x.detach()) > 0),
    "pickle": lambda x: x * (pickled(x.detach()) > 0),
    "save": lambda x: x * (saved(x.detach()) > 0),
    "thread": in_thread(lambda x: x * (x > 0)),
    "storage": lambda x: x * (torch.tensor(x.detach().untyped_storage().tolist()[:0]).sum() + (x > 0)),
}


@pytest.mark.parametrize("name", PAST)
def test_ways_past_the_dispatcher(name: str) -> None:
    module = two_layers()
    module.insert(3, Lambda(lambda m, x: PAST[name](x)))
    assert "2.weight" not in promised(check(module, OTTT()))


# --- weights that are drawn or computed


class Drawn(nn.Linear):
    """The weight, the bias or both go through dropout."""

    def __init__(self, like: nn.Linear, kind: str) -> None:
        super().__init__(like.in_features, like.out_features, dtype=torch.float64)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if self.kind in ("weight", "both"):
            weight = nn.functional.dropout(weight, 0.5)
        if self.kind in ("bias", "both"):
            bias = nn.functional.dropout(bias, 0.5)
        if self.kind == "noise":
            weight = weight * (1 + 0.5 * torch.randn_like(weight))
        if self.kind == "data":
            weight = weight * x.detach().mean()
        return nn.functional.linear(x, weight, bias)


@pytest.mark.filterwarnings("ignore:The code in the forward")
@pytest.mark.parametrize("kind", ["weight", "bias", "both", "noise"])
def test_drawn_weights(kind: str) -> None:
    module = two_layers()
    module[2] = Drawn(module[2], kind)
    net, given = Network(module), sample("mlp", 0)
    assert not promised(certify(net, OTTT(), *given, CE))
    x, y = given
    one = certify(net, OTTT(), x[:1], y, CE)
    assert one.ok and {"2.weight", "4.weight"} <= promised(one)


def test_neurons_only() -> None:
    """The derivative of a surrogate is this library's own, and no code of others."""
    assert not Network(nn.Sequential(nn.Linear(8, 4), LIF())).wiring(torch.ones(2, 1, 8)).unvouched
