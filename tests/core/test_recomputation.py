"""Networks that call parts of their forward again in the backward pass: the same gradient, or a refusal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from spikewright import spatial
from spikewright.errors import IncompatibleRule, NetworkError
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.network.probing import recomputation
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, DSR, GPM, HLOP, OTTT, SLTT, Rule
from tests.core.support import lively


class Reversed(torch.autograd.Function):
    """A layer that keeps its input alone and runs again in the backward pass, as reversible blocks do."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.layer, ctx.parameters = layer, parameters
        ctx.save_for_backward(x)
        return layer(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.layer(x)
        return None, *torch.autograd.grad(y, (x, *ctx.parameters), grads[0])


Around = Callable[[nn.Module, Tensor], Tensor]
WAYS: dict[str, Around] = {
    "reentrant": lambda m, x: checkpoint(m, x, use_reentrant=True),
    "not reentrant": lambda m, x: checkpoint(m, x, use_reentrant=False),
    "bound forward": lambda m, x: checkpoint(m.forward, x, use_reentrant=False),
    "sequential": lambda m, x: checkpoint_sequential(nn.Sequential(m, nn.Identity()), 2, x, use_reentrant=False),
    "reversible": lambda m, x: Reversed.apply(m, x, *m.parameters()),  # type: ignore[return-value]
}
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # in no_grad
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


class Net(nn.Module):
    """Two layers of neurons; the middle, and the first layer, are run in a way of their own."""

    def __init__(self, way: Around | None, middle: Callable[[], nn.Module], first: bool = False) -> None:
        super().__init__()
        self.way, self.first = way, first
        self.a, self.n1, self.middle = nn.Linear(8, 12), LIF(), middle()
        self.n2, self.c = LIF(), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        way = self.way or (lambda m, x: m(x))
        x = self.n1(way(self.a, x) if self.first else self.a(x))
        return self.c(self.n2(way(self.middle, x)))


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 12))


def net(way: Around | None, middle: Callable[[], nn.Module] = layers, first: bool = False) -> Network:
    torch.manual_seed(1)
    return Network(lively(Net(way, middle, first)))


def sample(static: bool = False) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x = 1.5 * torch.rand(1 if static else 6, 3, 8)
    return x.expand(6, -1, -1), torch.randint(4, (3,))


def gradients(rule: Rule, network: Network, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    loss = OnRate(F.cross_entropy) if isinstance(rule, DSR) else PerStep(F.cross_entropy)
    network.zero_grad()
    for _ in rule.updates(network, x, y, loss):
        pass
    return {name: p.grad for name, p in network.module.named_parameters() if p.grad is not None}


PLAIN: dict[str, Callable[[], Rule]] = {
    "bptt": BPTT,
    "bptt in chunks": lambda: BPTT(chunk=2),
    "bptt checkpointed": lambda: BPTT(chunk=2, checkpoint=True),
    "sltt": SLTT,
}


@ways
@pytest.mark.parametrize("static", [False, True], ids=["moving", "static"])
@pytest.mark.parametrize("rule", PLAIN.values(), ids=PLAIN.keys())
def test_plain_autograd_is_as_without(rule: Callable[[], Rule], static: bool, way: Around) -> None:
    x, y = sample(static)
    first = way is not WAYS["reentrant"]  # which needs an input that wants a gradient
    expected, found = gradients(rule(), net(None), x, y), gradients(rule(), net(way, first=first), x, y)
    assert expected.keys() == found.keys() and all(g.any() for g in expected.values())
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


@ways
def test_a_layer_behind_neurons_alone(way: Around) -> None:
    """Where spikes would be kept as bytes."""
    x, y = sample()
    middle = lambda: nn.Linear(12, 12)  # noqa: E731
    expected, found = gradients(BPTT(), net(None, middle), x, y), gradients(BPTT(), net(way, middle), x, y)
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


def test_rates_are_as_without() -> None:
    x, y = sample()
    middle = lambda: nn.Linear(12, 12)  # noqa: E731
    expected, found = (gradients(DSR(), net(way, middle), x, y) for way in (None, WAYS["not reentrant"]))
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


HOOKED: dict[str, Callable[[], Rule]] = {
    "ottt": OTTT,
    "fa": lambda: SLTT(spatial=spatial.FA()),
    "sign-symmetric": lambda: SLTT(spatial=spatial.SignSymmetric()),
    "hlop": lambda: HLOP(BPTT()),
    "gpm": lambda: GPM(BPTT()),
}


@ways
@pytest.mark.parametrize("rule", HOOKED.values(), ids=HOOKED.keys())
def test_hooks_at_layers_are_refused(rule: Callable[[], Rule], way: Around) -> None:
    network, (x, y) = net(way), sample()
    assert network.wiring(x).recomputed == {"middle.0", "middle.3"}
    with pytest.raises(IncompatibleRule, match=r"middle.0, middle.3 a second time.*rules.BPTT"):
        gradients(rule(), network, x, y)
    gradients(rule(), net(None), x, y)


@pytest.mark.parametrize("rule", HOOKED.values(), ids=HOOKED.keys())
def test_hooks_at_layers_do_not_mind_a_norm_that_is_run_again(rule: Callable[[], Rule]) -> None:
    x, y = sample()
    middle = lambda: nn.LayerNorm(12)  # noqa: E731
    torch.manual_seed(2)
    expected = gradients(rule(), net(None, middle), x, y)
    torch.manual_seed(2)
    found = gradients(rule(), net(WAYS["not reentrant"], middle), x, y)
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


def holds(inner: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(12, 12), inner)


HOLDING: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "neuron": (holds(LIF()), r"'middle.1' \(LIF\)"),
    "neuron alone": (LIF, r"'middle' \(LIF\)"),
    "batch norm": (holds(nn.BatchNorm1d(12)), r"'middle.1' \(BatchNorm1d\)"),
    "batch norm alone": (lambda: nn.BatchNorm1d(12), r"'middle' \(BatchNorm1d\)"),
    "dropout": (holds(nn.Dropout(0.3)), r"'middle.1' \(Dropout\)"),
    "power iteration": (lambda: spectral_norm(nn.Linear(12, 12)), r"ParametrizationList"),
}


@pytest.mark.parametrize("way", [w for n, w in WAYS.items() if n != "bound forward"])
@pytest.mark.parametrize("middle", [m for m, _ in HOLDING.values()], ids=HOLDING.keys())
def test_what_holds_something_is_refused(middle: Callable[[], nn.Module], way: Around) -> None:
    expected = next(text for m, text in HOLDING.values() if m is middle)
    network, (x, _) = net(way, middle), sample()
    with pytest.raises(NetworkError, match=rf"{expected}.*second time.*BPTT\(checkpoint=True\)"):
        network.run(x)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_what_holds_something_in_training_is_right_in_evaluation() -> None:
    middle = lambda: nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Dropout())  # noqa: E731
    x, y = sample()
    expected, found = (
        gradients(BPTT(), Network(net(way, layers).module).eval(), x, y) for way in (None, WAYS["reentrant"])
    )
    assert expected
    networks = [Network(net(None, middle).module), Network(lively(Net(WAYS["not reentrant"], middle)))]
    networks[1].load_state_dict(networks[0].state_dict())
    expected, found = (gradients(BPTT(), n.eval(), x, y) for n in networks)
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


def test_weights_that_are_a_function_of_others() -> None:
    middle = lambda: weight_norm(nn.Linear(12, 12))  # noqa: E731
    x, y = sample()
    expected, found = (gradients(BPTT(), net(way, middle), x, y) for way in (None, WAYS["not reentrant"]))
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


@ways
@pytest.mark.parametrize("rule", [BPTT, SLTT], ids=lambda r: r.__name__)
def test_no_promise_is_broken(rule: type[Rule], way: Around) -> None:
    found = certify(net(way), rule(), *sample(), PerStep(F.cross_entropy))
    assert all(row.relative_error < 1e-9 for row in found.rows if row.exact)


# What only looks like it.


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.n1, self.b, self.n2 = nn.Linear(8, 12), LIF(), nn.Linear(12, 12), LIF()
        self.c = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.n1(self.backbone(x))
        return self.c(self.n2(self.b(x)))


class OnCPU(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return super().forward(x)


HARMLESS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "frozen": (Frozen, Frozen),
    "save_on_cpu": (lambda: OnCPU(None, layers), lambda: Net(None, layers)),
}


@pytest.mark.parametrize("rule", [BPTT, OTTT, SLTT, HLOP], ids=lambda r: r.__name__)
@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_like_it_works(name: str, rule: Any) -> None:
    (with_it, without), (x, y) = HARMLESS[name], sample()
    found = []
    for build in (with_it, without):
        torch.manual_seed(1)
        network = Network(lively(build()))
        assert network.wiring(x).recomputed == frozenset()
        found.append(gradients(rule(BPTT()) if rule is HLOP else rule(), network, x, y))
    assert found[0] and found[0].keys() == found[1].keys()
    for key, g in found[1].items():
        torch.testing.assert_close(found[0][key], g, rtol=1e-12, atol=1e-12)


def test_hooks_of_whoever_calls_hide_nothing_and_do_no_harm() -> None:
    x, y = sample()
    expected = gradients(BPTT(), net(None), x, y)
    with torch.autograd.graph.save_on_cpu():
        found = gradients(BPTT(), net(None), x, y)
        assert net(WAYS["not reentrant"]).wiring(x).recomputed == {"middle.0", "middle.3"}
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-12, atol=1e-12)


def test_a_network_without_any_of_it_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(recomputation._BothWays, "__init__", fail)
    net(None).wiring(sample()[0])
    with torch.no_grad():
        net(None).wiring(sample()[0])
    with pytest.raises(AssertionError):
        net(WAYS["reentrant"]).wiring(sample()[0])


@ways
def test_it_leaves_no_mark(way: Around) -> None:
    network, (x, _) = net(way), sample()
    fired: list[str] = []
    for name, p in network.module.named_parameters():
        p.register_post_accumulate_grad_hook(lambda p, name=name: fired.append(name))
    network.module.get_parameter("a.weight").grad = kept = torch.rand(12, 8)
    before = kept.clone()
    network.module.get_parameter("c.bias").requires_grad_(False)
    network.wiring(x)
    assert fired == [] and network.module.get_parameter("a.weight").grad is kept and torch.equal(kept, before)
    assert [n for n, p in network.module.named_parameters() if p.grad is not None] == ["a.weight"]
    assert [n for n, p in network.module.named_parameters() if not p.requires_grad] == ["c.bias"]
    assert [n for n, m in network.module.named_modules() if "forward" in m.__dict__] == []


def test_a_network_that_cannot_be_differentiated_runs() -> None:
    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            raise ValueError

    way: Around = lambda m, x: Refuses.apply(checkpoint(m, x, use_reentrant=False))  # type: ignore[assignment,return-value]  # noqa: E731
    x = sample()[0]
    assert torch.equal(net(way).run(x)[0], net(None).run(x)[0])


def test_embeddings_before_it() -> None:
    """Gradients that only parameters want."""
    torch.manual_seed(0)

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.b, self.n, self.c = nn.Embedding(5, 8), nn.Linear(8, 12), LIF(), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.n(checkpoint(self.b, self.words(x), use_reentrant=True)))

    network = Network(lively(Words()))
    assert network.wiring(torch.randint(5, (4, 3))).recomputed == {"b"}
    assert all(p.grad is None for p in network.parameters())
